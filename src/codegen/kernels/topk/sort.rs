//! Sorting words by their keys, a byte at a time: the least significant first, each pass keeping the order of equals.
//!
//! Knuth, The Art of Computer Programming, volume 3, section 5.2.5. All bytes are counted while the words are written. A pass
//! whose byte is the same in all words is left out.

use super::super::super::vector::{Address, Builder, Condition, Int, IntOp};
use super::{LANE, Scratch, WORD};

/// Bytes of a key, each with its table.
const DIGITS: usize = 4;
const VALUES: usize = 256;
/// Bytes of a table: where the words of each byte go, and where the last end.
const TABLE: usize = (VALUES + 8) * 8;
pub(super) const TABLES: usize = DIGITS * TABLE;
/// What makes of the keys, which have a sign, numbers that order as their bits do.
const BIAS: i64 = -(1 << 31);

/// Words on the way to their order.
pub(super) struct Sorter {
    tables: Int,
    words: [Int; 2],
    /// Bytes of the words.
    bytes: Int,
}

impl Sorter {
    pub(super) fn new(b: &mut Builder, scratch: Int, places: &Scratch) -> Sorter {
        let tables = b.add(scratch, places.tables);
        let words = places.words.map(|place| b.add(scratch, place));
        let zero = b.splat(0.0);
        let (at, step) = (b.int(tables), b.unit().bytes());
        b.repeat(TABLES / step, |b| {
            b.store(at.at(0), zero);
            b.advance(at, step);
        });
        Sorter { tables, words, bytes: b.int(0i64) }
    }

    /// Takes the words of all keys.
    pub(super) fn add_all(&mut self, b: &mut Builder, keys: Int, size: usize) {
        b.loop_range(0i64, size, 1, |b, index| {
            let key = b.load_word(Address { index: Some((index, LANE as u8)), ..keys.at(0) });
            self.add(b, key, index);
        });
    }

    /// Takes the words of those keys whose indices lie in the second memory of words, of 32 bits each, up to `end`.
    pub(super) fn add_some(&mut self, b: &mut Builder, keys: Int, end: Int) {
        let bytes = b.int_op(IntOp::Sub, end, self.words[1]);
        b.loop_range(0i64, bytes, LANE as i64, |b, at| {
            let index = b.load_word(self.words[1].plus(at, 0));
            let key = b.load_word(Address { index: Some((index, LANE as u8)), ..keys.at(0) });
            self.add(b, key, index);
        });
    }

    fn add(&self, b: &mut Builder, key: Int, index: Int) {
        let place = b.add(self.words[0], self.bytes);
        b.store_int(place.at(0), index);
        // Its upper half is where the next word goes.
        let key = b.add(key, BIAS);
        b.store_int(place.at(LANE), key);
        for digit in 0..DIGITS {
            let value = b.load_byte(place.at(LANE + digit));
            let entry = self.entry(value, digit);
            let count = b.load_int(entry);
            b.advance(count, WORD);
            b.store_int(entry, count);
        }
        b.advance(self.bytes, WORD);
    }

    fn entry(&self, value: Int, digit: usize) -> Address {
        Address { index: Some((value, 8)), ..self.tables.at(digit * TABLE) }
    }

    /// Sorts them; the result is where they lie.
    pub(super) fn sort(self, b: &mut Builder) -> Int {
        let sums = [(); DIGITS].map(|()| b.int(0i64));
        b.loop_range(0i64, VALUES + 1, 1, |b, value| {
            for (digit, &sum) in sums.iter().enumerate() {
                let entry = self.entry(value, digit);
                let count = b.load_int(entry);
                b.store_int(entry, sum);
                b.advance(sum, count);
            }
        });
        let [from, to] = self.words.map(|words| b.int(words));
        for digit in 0..DIGITS {
            let value = b.load_byte(from.at(LANE + digit));
            let begin = b.load_int(self.entry(value, digit));
            let end = b.load_int(Address { offset: (digit * TABLE + 8) as i32, ..self.entry(value, digit) });
            let same = b.int_op(IntOp::Sub, end, begin);
            b.if_then(Condition::NotEqual, same, self.bytes, |b| {
                b.loop_range(0i64, self.bytes, WORD as i64, |b, at| {
                    let word = b.load_int(from.plus(at, 0));
                    let value = b.load_byte(from.plus(at, LANE + digit));
                    let entry = self.entry(value, digit);
                    let place = b.load_int(entry);
                    b.store_int(to.plus(place, 0), word);
                    b.advance(place, WORD);
                    b.store_int(entry, place);
                });
                let sorted = b.int(to);
                b.set_int(to, from);
                b.set_int(from, sorted);
            });
        }
        from
    }
}
