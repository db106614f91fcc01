//! This tab among the others: holds its lock, hears and posts notices, looks for the locks of others and
//! watches those that it has found. Between [`Hub::go`] and [`Hub::come`] it is not there for anybody.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use wasm_bindgen_futures::spawn_local;
use web_sys::AbortController;

use super::{
    channel::Channel,
    connection::{Connection, End},
};
use crate::boxmap::BoxMap;
use crate::platform::{
    Lock,
    nearby::Neighbour,
    tabs::{
        MAX_CONNECTIONS_PER_TAB, MAX_INCOMING, NOTICES, Tab,
        link::Broken,
        notice::{MAX_NOTICE, Notice},
        roll::{MAX_LOCKS, Roll, Step},
    },
    time::{self, Duration},
    web::{
        AbortOnDrop,
        lock::{held, vacant},
        random,
    },
};

/// For a lock that nobody else wants.
const LOCK_WAIT: Duration = Duration::from_secs(30);

pub(super) struct Hub {
    this: Weak<Hub>,
    peer: PeerId,
    state: RefCell<State>,
}

/// A connection that another tab has opened.
pub(super) struct Incoming {
    pub from: Tab,
    pub to: Tab,
    pub connection: Connection,
}

#[derive(Default)]
struct State {
    /// `None`: put aside.
    here: Option<Here>,
    /// What nobody has asked for yet. At most one of each tab that was known to who asks, and one of each
    /// that is known now.
    found: VecDeque<Neighbour>,
    incoming: VecDeque<Incoming>,
    finder: Option<Waker>,
    transport: Option<Waker>,
}

struct Here {
    roll: Roll,
    /// Once the lock is held.
    open: Option<(Channel, Lock)>,
    watches: BoxMap<Tab, AbortOnDrop>,
    connections: Vec<(Tab, Weak<End>)>,
}

impl Hub {
    pub fn new(peer: PeerId) -> Rc<Self> {
        Rc::new_cyclic(|this| Self { this: this.clone(), peer, state: RefCell::default() })
    }

    /// Is there for others from now on, as another tab than before.
    pub fn come(&self) {
        let here = &mut self.state.borrow_mut().here;
        let Some(tab) = random().filter(|_| here.is_none()).map(Tab::from_be_bytes) else { return };
        let roll = Roll::new(tab, self.peer);
        let lock_name = roll.lock_name();
        *here = Some(Here { roll, open: None, watches: BoxMap::new(), connections: Vec::new() });
        let hub = self.this.clone();
        spawn_local(async move {
            // Without its lock a tab would be taken for one that is gone.
            let Ok(Some(lock)) = Lock::acquire(&lock_name, LOCK_WAIT).await else { return };
            if let Some(hub) = hub.upgrade() {
                hub.open(tab, lock);
            }
        });
    }

    /// Is there no longer, neither as one to find nor as the other end of a connection.
    pub fn go(&self) {
        let state = &mut *self.state.borrow_mut();
        state.incoming.clear();
        let Some(mut here) = state.here.take() else { return };
        for (_, end) in here.connections.drain(..) {
            if let Some(end) = end.upgrade() {
                end.put_aside();
            }
        }
        for step in here.roll.clear() {
            state.perform_found(&step);
        }
    }

    /// Tells the others again that this tab is there.
    pub fn announce(&self) {
        self.change(|here| here.roll.announce());
    }

    pub fn knows(&self, tab: Tab, peer: PeerId) -> bool {
        self.state.borrow().here.as_ref().is_some_and(|here| here.roll.knows(tab, peer))
    }

    /// A connection that the other tab is asked to take up.
    pub fn dial(&self, tab: Tab) -> Result<Connection, Broken> {
        let state = &mut *self.state.borrow_mut();
        let here = state.here.as_mut().ok_or(Broken::Aside)?;
        let (channel, _) = here.open.as_ref().ok_or(Broken::Aside)?;
        let token = random().ok_or(Broken::Refused)?;
        let connection = Connection::dial(&token).ok_or(Broken::Refused)?;
        if !channel.post(&here.roll.open(tab, token).encode()) {
            return Err(Broken::Refused);
        }
        here.remember(tab, &connection);
        Ok(connection)
    }

    pub fn poll_found(&self, cx: &mut Context<'_>) -> Poll<Neighbour> {
        let state = &mut *self.state.borrow_mut();
        match state.found.pop_front() {
            Some(found) => Poll::Ready(found),
            None => {
                state.finder = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<Incoming> {
        let state = &mut *self.state.borrow_mut();
        match state.incoming.pop_front() {
            Some(incoming) => Poll::Ready(incoming),
            None => {
                state.transport = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// This tab holds its lock.
    fn open(&self, tab: Tab, lock: Lock) {
        let hub = self.this.clone();
        let heard = move |message: Vec<u8>| {
            if let (Some(hub), Some(notice)) = (hub.upgrade(), Notice::decode(&message)) {
                hub.change(|here| here.roll.hear(&notice).into_iter().collect());
            }
        };
        self.change(|here| {
            // It may have gone, and come as another, meanwhile.
            if here.roll.tab() != tab {
                return Vec::new();
            }
            here.open = Channel::open(NOTICES, MAX_NOTICE, heard).map(|channel| (channel, lock));
            here.roll.announce()
        });
    }

    /// Changes what is known, and does what follows.
    fn change(&self, change: impl FnOnce(&mut Here) -> Vec<Step>) {
        let state = &mut *self.state.borrow_mut();
        let Some(here) = &mut state.here else { return };
        for step in change(here) {
            self.perform(state, &step);
        }
    }

    fn perform(&self, state: &mut State, step: &Step) {
        state.perform_found(step);
        let Some(here) = &mut state.here else { return };
        match step {
            Step::Post(notice) => {
                if let Some((channel, _)) = &here.open {
                    channel.post(&notice.encode());
                }
            }
            Step::Look(wait) => self.look(*wait),
            Step::Watch(tab, lock) => self.watch(here, *tab, lock.clone()),
            Step::Accept(from, token) => {
                // More than that are not waited for; who opened one tries again.
                let many = here.connections_with(*from) >= MAX_CONNECTIONS_PER_TAB;
                if many || state.incoming.len() >= MAX_INCOMING {
                    return;
                }
                let Some(connection) = Connection::accept(token) else { return };
                here.remember(*from, &connection);
                let to = here.roll.tab();
                state.incoming.push_back(Incoming { from: *from, to, connection });
                state.transport.iter().for_each(Waker::wake_by_ref);
            }
            Step::Gone(tab, _) => here.forget(*tab),
            Step::Found(..) => {}
        }
    }

    /// Finds out which locks are held.
    fn look(&self, wait: Duration) {
        let hub = self.this.clone();
        spawn_local(async move {
            if !wait.is_zero() {
                time::sleep(wait).await;
            }
            let names = held(MAX_LOCKS).await.unwrap_or_default();
            if let Some(hub) = hub.upgrade() {
                hub.change(|here| here.roll.see(names.iter().map(String::as_str)));
            }
        });
    }

    /// Waits for the lock of the tab.
    fn watch(&self, here: &mut Here, tab: Tab, lock: String) {
        let Ok(abort) = AbortController::new() else { return };
        let (hub, signal) = (self.this.clone(), abort.signal());
        here.watches.insert(tab, AbortOnDrop(abort));
        spawn_local(async move {
            // One that cannot be watched counts as gone.
            if let Ok(false) = vacant(&lock, &signal).await {
                return;
            }
            if let Some(hub) = hub.upgrade() {
                hub.change(|here| here.roll.gone(tab));
            }
        });
    }
}

impl State {
    /// Tells who asks for it what was found or is gone.
    fn perform_found(&mut self, step: &Step) {
        let neighbour = match *step {
            Step::Found(tab, peer) => Neighbour::Found { peer, address: address(tab) },
            Step::Gone(tab, peer) => {
                let (address, before) = (address(tab), self.found.len());
                self.found.retain(|told| {
                    !matches!(told, Neighbour::Found { address: found, .. } if *found == address)
                });
                if self.found.len() < before {
                    return;
                }
                Neighbour::Gone { peer, address }
            }
            _ => return,
        };
        self.found.push_back(neighbour);
        self.finder.iter().for_each(Waker::wake_by_ref);
    }
}

impl Here {
    fn remember(&mut self, tab: Tab, connection: &Connection) {
        self.connections.retain(|(_, end)| end.strong_count() > 0);
        self.connections.push((tab, connection.end()));
    }

    fn connections_with(&mut self, tab: Tab) -> usize {
        self.connections.retain(|(_, end)| end.strong_count() > 0);
        self.connections.iter().filter(|(to, _)| *to == tab).count()
    }

    fn forget(&mut self, tab: Tab) {
        self.watches.remove(&tab);
        self.connections.retain(|(to, end)| {
            let gone = *to == tab;
            if let Some(end) = end.upgrade().filter(|_| gone) {
                end.break_off(Broken::Gone);
            }
            !gone
        });
    }
}

fn address(tab: Tab) -> Multiaddr {
    Protocol::Memory(tab).into()
}
