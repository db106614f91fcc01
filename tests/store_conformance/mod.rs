//! What every database and the store on top of it must do: one suite, run over memory natively and
//! over IndexedDB in a browser. A failed assertion fails the case.

#![allow(clippy::arc_with_non_send_sync, reason = "Send natively; a browser has one thread")]

mod blocks;
mod commits;
mod contract;
mod fixture;
mod overlaps;
pub mod probe;
mod random;
mod trouble;

pub use self::{
    blocks::*, commits::*, contract::*, fixture::*, overlaps::*, random::*, trouble::*,
};

/// Calls `$run! { case case … }` with the names of all cases, each `async fn(&impl Place)`.
#[macro_export]
macro_rules! for_each_case {
    ($run:ident) => {
        $run! {
            batches_are_all_or_nothing
            put_new_reports_what_it_wrote
            values_of_all_sizes_come_back_in_their_order
            keys_come_in_order_and_in_pages
            calls_take_effect_in_their_order
            a_closed_database_says_so
            blocks_come_back
            both_cid_versions_and_codecs_find_a_block
            identity_blocks_take_no_row
            a_thousand_small_blocks
            blocks_of_the_largest_size
            reading_while_writing
            roots_by_prefix
            the_identity_is_set_once
            a_newer_format_is_refused
            a_discarded_session_leaves_nothing
            a_dropped_session_leaves_nothing
            only_what_a_root_reaches_is_committed
            two_sessions_with_the_same_blocks_in_every_order
            a_held_block_outlives_its_removal
            shared_blocks_live_until_the_last_reference
            removing_a_tree_frees_all_of_it
            a_directory_edit_costs_what_changed
            a_root_that_moved_is_a_conflict
            an_incomplete_tree_is_refused
            a_block_read_by_a_session_is_held
            a_crash_leaves_only_what_was_committed
            a_recount_repairs_wrong_counts
            the_mark_is_there_exactly_while_needed
            a_full_quota_leaves_nothing_half_written
            a_corrupt_block_is_replaced
            a_removed_node_that_is_corrupt_is_cleaned_up_later
            a_dropped_commit_runs_to_its_end
            a_commit_beside_a_flush_leaves_the_mark
            a_commit_of_what_another_session_is_writing
            a_block_put_while_it_is_being_deleted
            both_versions_of_a_link_are_one_reference
            random_sequences_match_a_model
        }
    };
}
