//! Orders the functions of a wasm module so that gzip finds like code near by.
//!
//! gzip refers to no more than the 32 KiB before, and most of the module are copies of generics that
//! differ in a few bytes. So after each function comes the one of which most was seen just before.

use std::collections::{HashMap, VecDeque};

use crate::Result;

/// Two functions have something in common when they share this many bytes in a row: gzip refers to
/// three or more, but runs that short are everywhere.
const RUN: usize = 6;

/// A run that more functions have than this tells nothing about which belong together.
const COMMON: usize = 400;

/// How far back, in bytes, a function is still near: below gzip's 32 KiB, for a reference must not
/// reach further back than that from the end of the next function either.
const NEAR: usize = 30_000;

const CUSTOM_SECTION: u8 = 0;
const IMPORT_SECTION: u8 = 2;
const CODE_SECTION: u8 = 10;
const FUNCTION_NAMES: u8 = 1;

/// `module` with its functions named by their place in the order, for wasm-opt's
/// `--reorder-functions-by-name`, which also renumbers all that refers to them.
pub fn name_by_likeness(module: &[u8]) -> Result<Vec<u8>> {
    let parts = Parts::of(module).ok_or("the module cannot be read")?;
    let mut names = Vec::new();
    let order = chain(&parts.bodies);
    write_number(&mut names, order.len());
    let mut places = vec![0; order.len()];
    for (place, &function) in order.iter().enumerate() {
        places[function] = place;
    }
    for (function, place) in places.into_iter().enumerate() {
        write_number(&mut names, parts.imported + function);
        write_text(&mut names, &format!("{place:08}"));
    }
    let mut section = Vec::new();
    write_text(&mut section, "name");
    section.push(FUNCTION_NAMES);
    write_number(&mut section, names.len());
    section.extend(names);

    let mut named = parts.unnamed.concat();
    named.push(CUSTOM_SECTION);
    write_number(&mut named, section.len());
    named.extend(section);
    Ok(named)
}

/// What of a module the order is made of.
struct Parts<'a> {
    /// The header and all sections but the names.
    unnamed: Vec<&'a [u8]>,
    /// Imported functions are numbered before the module's own.
    imported: usize,
    bodies: Vec<&'a [u8]>,
}

impl<'a> Parts<'a> {
    /// `None` when the module is cut off or has an import of an unknown kind.
    fn of(module: &'a [u8]) -> Option<Self> {
        let mut rest = module;
        let header = take(&mut rest, 8)?;
        let mut parts = Self { unnamed: vec![header], imported: 0, bodies: Vec::new() };
        while !rest.is_empty() {
            let whole = rest;
            let id = byte(&mut rest)?;
            let mut section = counted(&mut rest)?;
            match id {
                CUSTOM_SECTION if counted(&mut section)? == b"name" => continue,
                IMPORT_SECTION => {
                    for _ in 0..number(&mut section)? {
                        parts.imported += usize::from(is_function(&mut section)?);
                    }
                }
                CODE_SECTION => {
                    for _ in 0..number(&mut section)? {
                        parts.bodies.push(counted(&mut section)?);
                    }
                }
                _ => {}
            }
            parts.unnamed.push(&whole[..whole.len() - rest.len()]);
        }
        Some(parts)
    }
}

/// Reads one import.
fn is_function(section: &mut &[u8]) -> Option<bool> {
    counted(section)?;
    counted(section)?;
    let kind = byte(section)?;
    match kind {
        0 => {
            number(section)?;
        }
        // A table has a type before its limits.
        1 | 2 => {
            if kind == 1 {
                byte(section)?;
            }
            let limits = byte(section)?;
            number(section)?;
            if limits & 1 != 0 {
                number(section)?;
            }
        }
        3 => {
            take(section, 2)?;
        }
        _ => return None,
    }
    Some(kind == 0)
}

/// The order: always next the function with the largest share of runs that are near, or, when none
/// has any, the first that is left.
fn chain(bodies: &[&[u8]]) -> Vec<usize> {
    let Runs { of_function, functions } = Runs::of(bodies);
    // Of each function, how many of its runs are near; of each run, how often it is near.
    let mut known = vec![0_usize; bodies.len()];
    let mut nearby = vec![0_usize; functions.len()];
    let mut near = VecDeque::new();
    let mut near_bytes = 0;
    let mut order = Vec::with_capacity(bodies.len());
    let mut left: Vec<usize> = (0..bodies.len()).collect();
    loop {
        let mut best: Option<(usize, usize)> = None;
        for (place, &function) in left.iter().enumerate() {
            // The two keep a function of a few bytes from being alike to everything.
            let length = |function: usize| bodies[function].len() + 2;
            let better = best.is_none_or(|(_, than)| {
                known[function] * length(than) > known[than] * length(function)
            });
            if better {
                best = Some((place, function));
            }
        }
        let Some((place, next)) = best else { return order };
        left.remove(place);
        order.push(next);

        near.push_back(next);
        near_bytes += bodies[next].len();
        for &run in &of_function[next] {
            nearby[run] += 1;
            if nearby[run] == 1 {
                functions[run].iter().for_each(|&function| known[function] += 1);
            }
        }
        while near_bytes > NEAR {
            let Some(far) = near.pop_front() else { break };
            near_bytes -= bodies[far].len();
            for &run in &of_function[far] {
                nearby[run] -= 1;
                if nearby[run] == 0 {
                    functions[run].iter().for_each(|&function| known[function] -= 1);
                }
            }
        }
    }
}

/// Which function has which runs, a run twice when it is there twice.
struct Runs {
    of_function: Vec<Vec<usize>>,
    /// Empty for what is too common.
    functions: Vec<Vec<usize>>,
}

impl Runs {
    fn of(bodies: &[&[u8]]) -> Self {
        let mut numbers = HashMap::new();
        let mut functions: Vec<Vec<usize>> = Vec::new();
        let mut of_function = Vec::with_capacity(bodies.len());
        for (function, body) in bodies.iter().enumerate() {
            let mut own = Vec::with_capacity(body.len());
            for run in body.windows(RUN) {
                let next = numbers.len();
                let number = *numbers.entry(run).or_insert(next);
                if number == next {
                    functions.push(Vec::new());
                }
                functions[number].push(function);
                own.push(number);
            }
            of_function.push(own);
        }
        for functions in &mut functions {
            if functions.len() > COMMON {
                *functions = Vec::new();
            }
        }
        Self { of_function, functions }
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

fn byte(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1).map(|taken| taken[0])
}

/// An unsigned LEB128 number.
fn number(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..usize::BITS).step_by(7) {
        let next = byte(rest)?;
        value |= usize::from(next & 0x7f) << shift;
        if next < 0x80 {
            return Some(value);
        }
    }
    None
}

/// Bytes after their number.
fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = number(rest)?;
    take(rest, length)
}

fn write_number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_number(out, text.len());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A module with one import and `bodies`; not one that would run.
    fn module(bodies: &[&[u8]]) -> Vec<u8> {
        let mut code = Vec::new();
        write_number(&mut code, bodies.len());
        for body in bodies {
            write_number(&mut code, body.len());
            code.extend(*body);
        }
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([IMPORT_SECTION, 7, 1, 1, b'm', 1, b'f', 0, 0]);
        module.push(CODE_SECTION);
        write_number(&mut module, code.len());
        module.extend(code);
        module.extend([CUSTOM_SECTION, 6, 4, b'n', b'a', b'm', b'e', 9]);
        module
    }

    #[test]
    fn like_functions_come_one_after_the_other() {
        let bodies: [&[u8]; 4] = [b"abcdefghij", b"0123456789", b"abcdefghik", b"0123456798"];
        assert_eq!(chain(&bodies), [0, 2, 1, 3]);
        assert_eq!(chain(&[b"", b"x"]), [0, 1]);
    }

    #[test]
    fn names_tell_the_order_behind_the_imports() {
        let bodies: [&[u8]; 3] = [b"abcdefghij", b"0123456789", b"abcdefghik"];
        let old = module(&bodies);
        let named = name_by_likeness(&old).expect("a module");
        // All but the eight bytes of the old names.
        let (same, names) = named.split_at(old.len() - 8);
        assert_eq!(same, &old[..old.len() - 8]);
        let entries = b"\x03\x01\x0800000000\x02\x0800000002\x03\x0800000001";
        assert_eq!(&names[names.len() - entries.len()..], entries);
        assert_eq!(name_by_likeness(&named).expect("its own result"), named);
    }

    #[test]
    fn a_module_cut_off_is_an_error() {
        let whole = module(&[b"abcdefghij"]);
        assert!(name_by_likeness(&whole[..whole.len() - 1]).is_err());
        assert!(name_by_likeness(&whole[..4]).is_err());
    }
}
