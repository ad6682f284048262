//! NumPy's arrays in a pickle: a dictionary of them is what Detectron2 and PaddlePaddle publish, and some programs put them
//! beside tensors.
//!
//! An array is `_reconstruct(…)` with a state, or `_frombuffer(…)` since pickles of protocol 5; its bytes are in the pickle.
//! Protocol 2 has them as text, one character a byte. The forms are those of `ndarray.__reduce__` and
//! `ndarray.__reduce_ex__`, NumPy 1 and 2.

use std::sync::Arc;

use super::entries::{Buffer, Entry};
use super::npz;
use super::pickle::{Global, Id, Object, Pickle};

/// An array, and where its numbers are.
pub(super) struct Array<'a> {
    /// As NumPy calls a type of numbers.
    descr: String,
    shape: Vec<usize>,
    fortran_order: bool,
    data: Data<'a>,
}

enum Data<'a> {
    /// A part of the pickle.
    Within(&'a [u8]),
    /// Bytes that the pickle has as characters.
    Text(&'a str),
}

impl<'a> Array<'a> {
    /// The array that an object is; `None` where it is none, or one of Python's objects.
    ///
    /// # Errors
    /// Where an array is described otherwise than NumPy does it.
    pub(super) fn of(pickle: &Pickle<'a>, id: Id) -> Result<Option<Self>, String> {
        let Object::Call(function, arguments) = pickle.get(id) else { return Ok(None) };
        if !is_array(function) {
            return Ok(None);
        }
        let parts = tuple(pickle, *arguments).and_then(|arguments| match (function.name, arguments) {
            // (buffer, dtype, shape, order)
            ("_frombuffer", &[data, dtype, shape, order]) => {
                Some((shape, dtype, *pickle.get(order) == Object::Str("F"), data))
            }
            // The arguments are of an empty array. The state, (version, shape, dtype, Fortran's order, bytes), fills it.
            ("_reconstruct", _) => match tuple(pickle, pickle.state(id)?)? {
                &[_, shape, dtype, order, data] => Some((shape, dtype, *pickle.get(order) == Object::Bool(true), data)),
                _ => None,
            },
            _ => None,
        });
        let misshapen = || format!("an array by {} is described otherwise than NumPy does it", function.path());
        let (shape, dtype, fortran_order, data) = parts.ok_or_else(misshapen)?;
        let descr = descr(pickle, dtype).ok_or_else(misshapen)?;
        // A list of objects.
        if descr.contains('O') {
            return Ok(None);
        }
        let shape = super::pth::sizes(pickle, shape).ok_or_else(misshapen)?;
        let data = Data::of(pickle, data).ok_or_else(misshapen)?;
        Ok(Some(Self { descr, shape, fortran_order, data }))
    }

    /// The array under its name. `home` is what the pickle was read from.
    ///
    /// # Errors
    /// Where there are too many numbers, or others than the shape says.
    pub(super) fn entry(self, name: String, home: &Buffer) -> Result<Entry, String> {
        let bytes = match self.data {
            Data::Within(data) => {
                // Both are addresses in one allocation: the pickle was read from it.
                let start = data.as_ptr().addr() - (**home).as_ref().as_ptr().addr();
                (home.clone(), start..start + data.len())
            }
            Data::Text(text) => {
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                let bytes =
                    bytes.ok_or_else(|| format!("{name}: its numbers are text with characters beyond Latin-1"))?;
                let length = bytes.len();
                (Arc::new(bytes) as Buffer, 0..length)
            }
        };
        npz::array(name, &self.descr, self.shape, self.fortran_order, bytes)
    }
}

impl<'a> Data<'a> {
    fn of(pickle: &Pickle<'a>, id: Id) -> Option<Self> {
        match pickle.get(id) {
            Object::Bytes(bytes) => Some(Data::Within(bytes)),
            // A string of Python 2.
            Object::Str(text) => Some(Data::Within(text.as_bytes())),
            // _codecs.encode(text, 'latin1')
            Object::Call(Global { name: "encode", .. }, arguments) => match tuple(pickle, *arguments)? {
                &[text, coding] if *pickle.get(coding) == Object::Str("latin1") => match pickle.get(text) {
                    Object::Str(text) => Some(Data::Text(text)),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}

/// Whether a call of this name makes an array.
pub(super) fn is_array(function: &Global) -> bool {
    matches!(function.name, "_reconstruct" | "_frombuffer")
}

/// What numbers there are, as NumPy's files say it: `<f4`. A dtype is `dtype('f4', False, True)`, whose state begins with a
/// version and the order of bytes.
fn descr(pickle: &Pickle, id: Id) -> Option<String> {
    let Object::Call(Global { name: "dtype", .. }, arguments) = pickle.get(id) else { return None };
    let &Object::Str(kind) = pickle.get(*tuple(pickle, *arguments)?.first()?) else { return None };
    let order = pickle.state(id).and_then(|state| match pickle.get(*tuple(pickle, state)?.get(1)?) {
        &Object::Str(order) => Some(order),
        _ => None,
    });
    Some(format!("{}{kind}", order.unwrap_or("|")))
}

fn tuple<'p>(pickle: &'p Pickle, id: Id) -> Option<&'p [Id]> {
    if let Object::Tuple(items) = pickle.get(id) { Some(items) } else { None }
}
