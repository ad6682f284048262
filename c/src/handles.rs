//! Which models there are: what C gives as a model is compared with those that were handed out before it is followed.
//!
//! Tables of addresses, each with twice as many places as the one before, made when the places that an address may have are
//! taken in all others. Nothing locks but the making of a table, which is rare: a copy of the process (fork) made just then could hand
//! out no more models. A run costs some loads.
//! Addresses are kept inverted: to whoever looks for leaks, a table leads to no model.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::model::netc_model;

/// Places of the first table.
const FIRST: usize = 64;
/// Places of a table that one address may have.
const NEAR: usize = 8;
const TABLES: usize = 32;
/// Of a place that is free. No model has the address that it would stand for.
const FREE: usize = 0;

static FIRST_TABLE: [AtomicUsize; FIRST] = [const { AtomicUsize::new(FREE) }; FIRST];
static LATER_TABLES: [OnceLock<Box<[AtomicUsize]>>; TABLES] = [const { OnceLock::new() }; TABLES];

/// Notes a model that is handed out. False where there are more than all tables hold.
pub(crate) fn insert(model: *const netc_model) -> bool {
    let taken =
        |place: &AtomicUsize| place.compare_exchange(FREE, !model.addr(), Ordering::Release, Ordering::Relaxed).is_ok();
    places(&FIRST_TABLE, model).any(taken)
        || LATER_TABLES.iter().enumerate().any(|(i, table)| {
            let make = || (0..FIRST << (i + 1)).map(|_| AtomicUsize::new(FREE)).collect();
            places(table.get_or_init(make), model).any(taken)
        })
}

/// Whether a model was handed out and is not freed.
pub(crate) fn contains(model: *const netc_model) -> bool {
    known(model).any(|place| place.load(Ordering::Acquire) == !model.addr())
}

/// Forgets a model; false where it is none that was handed out. Of two calls for one model, one gives true.
pub(crate) fn remove(model: *const netc_model) -> bool {
    let mut places = known(model);
    places.any(|place| place.compare_exchange(!model.addr(), FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok())
}

/// All places that a model may have; none for the address that a free place would stand for, which is nobody's.
fn known(model: *const netc_model) -> impl Iterator<Item = &'static AtomicUsize> {
    let may_be = !model.addr() != FREE;
    let later = LATER_TABLES.iter().map_while(OnceLock::get).map(|table| &**table);
    [&FIRST_TABLE[..]].into_iter().chain(later).filter(move |_| may_be).flat_map(move |table| places(table, model))
}

/// The places of a table that a model may have.
fn places(table: &[AtomicUsize], model: *const netc_model) -> impl Iterator<Item = &AtomicUsize> {
    // Addresses are multiples of 16. Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4).
    let spread = (model.addr() as u64 >> 4).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    (0..NEAR).map(move |i| &table[(spread as usize + i) % table.len()])
}
