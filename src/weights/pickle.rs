//! Python's pickle format as inert data: what PyTorch's checkpoints are described in.
//!
//! A pickle is a program for a stack machine that may import and call anything. This reader has no
//! calls: it builds containers, numbers and strings, and records a call to one of the few
//! [`FUNCTIONS`] that rebuild tensors and arrays as [`Object::Call`], for [`super::pth`] to make sense of. Any
//! other name, and what would be made by it, is an [`Object::Unknown`]: programs keep settings and
//! optimizers beside the tensors, and only who needs what is unknown refuses it. Work and memory are
//! linear in the pickle's length; containers that contain themselves are possible and concern whoever
//! walks them.

use std::collections::HashMap;

/// A pickle may make no more objects than this.
const MAX_OBJECTS: usize = 1 << 22;

/// Index of an object in its [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

/// What the pickle's program has made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Object<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian two's complement.
    Long(&'a [u8]),
    Float(f64),
    Str(&'a str),
    Bytes(&'a [u8]),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// Keys and values in order of insertion.
    Dict(Vec<(Id, Id)>),
    Global(Global<'a>),
    /// A permitted function and the tuple of its arguments.
    Call(Global<'a>, Id),
    /// A name that is not permitted, or what only a call of it would make.
    Unknown(Global<'a>),
    /// A reference to something outside of the pickle.
    Persistent(Id),
}

/// A name, as `module.name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Global<'a> {
    pub module: &'a str,
    pub name: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PickleError {
    #[error("the pickle ends early, at byte {0}")]
    Truncated(usize),
    #[error("the pickle uses the instruction {0}, which describing tensors does not need")]
    Instruction(String),
    #[error("the pickle is damaged at byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("the pickle makes more than {MAX_OBJECTS} objects")]
    TooLarge,
}

/// Names that a pickle may mention. Those of storages, tensors, arrays and number types are data; calling
/// one is recorded, never done.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("collections", &["OrderedDict"]),
    ("builtins", &["set", "dict", "list", "tuple"]),
    ("__builtin__", &["set", "dict", "list", "tuple"]),
    (
        "torch._utils",
        &[
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_tensor_v3",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
        ],
    ),
    ("torch._tensor", &["_rebuild_from_type_v2"]),
    ("numpy", &["ndarray", "dtype"]),
    ("numpy.core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy._core.multiarray", &["_reconstruct", "scalar"]),
    ("numpy.core.numeric", &["_frombuffer"]),
    ("numpy._core.numeric", &["_frombuffer"]),
    ("_codecs", &["encode"]),
    ("torch.nn.parameter", &["Parameter", "Buffer"]),
    ("torch.storage", &["UntypedStorage", "TypedStorage", "_TypedStorage"]),
    (
        "torch",
        &[
            "Size",
            "Tensor",
            "device",
            "FloatStorage",
            "ComplexFloatStorage",
            "ComplexDoubleStorage",
            "DoubleStorage",
            "HalfStorage",
            "BFloat16Storage",
            "LongStorage",
            "IntStorage",
            "ShortStorage",
            "CharStorage",
            "ByteStorage",
            "BoolStorage",
            "float32",
            "complex64",
            "complex128",
            "float8_e4m3fn",
            "float8_e5m2",
            "float8_e4m3fnuz",
            "float8_e5m2fnuz",
            "float64",
            "float16",
            "bfloat16",
            "int64",
            "int32",
            "int16",
            "int8",
            "uint8",
            "uint16",
            "uint32",
            "uint64",
            "bool",
        ],
    ),
];

impl Global<'_> {
    fn is_permitted(&self) -> bool {
        FUNCTIONS.iter().any(|(module, names)| *module == self.module && names.contains(&self.name))
    }

    /// The name as Python writes it.
    pub(crate) fn path(&self) -> String {
        format!("{}.{}", self.module, self.name)
    }
}

/// The objects of one pickle and where it ended.
#[derive(Debug)]
pub(crate) struct Pickle<'a> {
    objects: Vec<Object<'a>>,
    states: HashMap<Id, Id>,
    pub root: Id,
    /// Bytes read; what follows is not the pickle's.
    pub length: usize,
}

impl<'a> Pickle<'a> {
    pub(crate) fn get(&self, id: Id) -> &Object<'a> {
        &self.objects[id.0 as usize]
    }

    /// What was set as the attributes of what a call gives.
    pub(crate) fn state(&self, id: Id) -> Option<Id> {
        self.states.get(&id).copied()
    }

    pub(crate) fn root(&self) -> &Object<'a> {
        self.get(self.root)
    }

    /// What references to outside refer to.
    pub(crate) fn persistent_ids(&self) -> impl Iterator<Item = Id> {
        self.objects.iter().filter_map(|o| if let Object::Persistent(id) = o { Some(*id) } else { None })
    }

    /// Reads the pickle that `bytes` begins with.
    ///
    /// # Errors
    /// Where it is damaged, makes too much, or has an instruction that is not permitted.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let mut machine = Machine { bytes, ..Machine::default() };
        loop {
            if let Some(root) = machine.step()? {
                return Ok(Pickle { objects: machine.objects, states: machine.states, root, length: machine.at });
            }
        }
    }
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object<'a>>,
    states: HashMap<Id, Id>,
    stack: Vec<Id>,
    /// Heights of the stack where `MARK` stood.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl<'a> Machine<'a> {
    /// Does one instruction; the result, where that was `STOP`.
    fn step(&mut self) -> Result<Option<Id>, PickleError> {
        let code = self.byte()?;
        match code {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            // FRAME: a hint of how much to read ahead.
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.above_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'q' | b'r' | 0x94 => self.remember(code)?,
            b'h' | b'j' => self.recall(code)?,
            b'}' => self.push(Object::Dict(vec![]))?,
            b']' | 0x8f => self.push(Object::List(vec![]))?,
            b')' => self.push(Object::Tuple(vec![]))?,
            b'l' | b't' | b'd' => self.collect(code)?,
            0x85..=0x87 => self.short_tuple(usize::from(code - 0x84))?,
            b'a' | b'e' | 0x90 => self.append(code)?,
            b's' | b'u' => self.set_items(code)?,
            b'c' | 0x93 => self.global(code)?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))?;
            }
            _ => {
                let object = self.scalar(code)?;
                self.push(object)?;
            }
        }
        Ok(None)
    }

    fn scalar(&mut self, code: u8) -> Result<Object<'a>, PickleError> {
        Ok(match code {
            b'N' => Object::None,
            0x88 => Object::Bool(true),
            0x89 => Object::Bool(false),
            b'K' => Object::Int(self.byte()?.into()),
            b'M' => Object::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Object::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => Object::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let length = self.byte()?.into();
                integer(self.take(length)?)
            }
            0x8b => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                integer(self.take(length)?)
            }
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'U' => text_or_bytes(self.counted(1)?),
            b'T' => text_or_bytes(self.counted(4)?),
            b'C' => Object::Bytes(self.counted(1)?),
            b'B' => Object::Bytes(self.counted(4)?),
            0x8e | 0x96 => Object::Bytes(self.counted(8)?),
            _ => return Err(PickleError::Instruction(instruction_name(code))),
        })
    }

    fn protocol(&mut self) -> Result<(), PickleError> {
        match self.byte()? {
            2..=5 => Ok(()),
            _ => self.malformed("the protocol is none of 2 to 5"),
        }
    }

    fn remember(&mut self, code: u8) -> Result<(), PickleError> {
        let key = match code {
            b'q' => self.byte()?.into(),
            b'r' => u32::from_le_bytes(self.array()?).into(),
            _ => self.memo.len() as u64,
        };
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, code: u8) -> Result<(), PickleError> {
        let key = if code == b'h' { self.byte()?.into() } else { u32::from_le_bytes(self.array()?).into() };
        match self.memo.get(&key) {
            Some(&id) => self.stack.push(id),
            None => return self.malformed("it recalls what it did not remember"),
        }
        Ok(())
    }

    fn collect(&mut self, code: u8) -> Result<(), PickleError> {
        let items = self.above_mark()?;
        let object = match code {
            b'l' => Object::List(items),
            b't' => Object::Tuple(items),
            _ => Object::Dict(self.pairs(&items)?),
        };
        self.push(object)
    }

    fn short_tuple(&mut self, length: usize) -> Result<(), PickleError> {
        let items = (0..length).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        self.push(Object::Tuple(items.into_iter().rev().collect()))
    }

    fn append(&mut self, code: u8) -> Result<(), PickleError> {
        let items = if code == b'a' { vec![self.pop()?] } else { self.above_mark()? };
        let list = self.top()?;
        match &mut self.objects[list.0 as usize] {
            Object::List(list) => list.extend(items),
            Object::Unknown(_) => {}
            _ => return self.malformed("it appends to what is no list"),
        }
        Ok(())
    }

    fn set_items(&mut self, code: u8) -> Result<(), PickleError> {
        let items = match code {
            b's' => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.above_mark()?,
        };
        let pairs = self.pairs(&items)?;
        let dict = self.top()?;
        match &mut self.objects[dict.0 as usize] {
            Object::Dict(dict) => dict.extend(pairs),
            Object::Unknown(_) => {}
            _ => return self.malformed("it sets items of what is no dictionary"),
        }
        Ok(())
    }

    fn pairs(&self, items: &[Id]) -> Result<Vec<(Id, Id)>, PickleError> {
        match items.as_chunks::<2>() {
            (pairs, []) => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
            _ => self.malformed("a key has no value"),
        }
    }

    fn global(&mut self, code: u8) -> Result<(), PickleError> {
        let global = if code == b'c' {
            Global { module: self.line()?, name: self.line()? }
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (&self.objects[module.0 as usize], &self.objects[name.0 as usize]) {
                (&Object::Str(module), &Object::Str(name)) => Global { module, name },
                _ => return self.malformed("a name is no string"),
            }
        };
        self.push(if global.is_permitted() { Object::Global(global) } else { Object::Unknown(global) })
    }

    fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Object::Tuple(items) = &self.objects[arguments.0 as usize] else {
            return self.malformed("a call's arguments are no tuple");
        };
        let object = match (&self.objects[function.0 as usize], items.as_slice()) {
            (Object::Global(Global { name: "OrderedDict" | "dict", .. }), []) => Object::Dict(vec![]),
            (Object::Global(Global { name: "set" | "list", .. }), []) => Object::List(vec![]),
            // A container made of another one: the same items.
            (Object::Global(Global { name: "set" | "list" | "tuple" | "Size", .. }), [items]) => {
                self.objects[items.0 as usize].clone()
            }
            (Object::Global(function), _) => Object::Call(*function, arguments),
            (Object::Unknown(function), _) => Object::Unknown(*function),
            // What permitted calls give are tensors, and not functions.
            _ => return self.malformed("it calls what is no function"),
        };
        self.push(object)
    }

    /// `BUILD` sets attributes: of an ordered dictionary (`_metadata`) or a tensor, where they say nothing of values, or of
    /// an array, where they are the values.
    fn build(&mut self) -> Result<(), PickleError> {
        let state = self.pop()?;
        let id = self.top()?;
        match self.objects[id.0 as usize] {
            Object::Call(..) => drop(self.states.insert(id, state)),
            Object::Dict(_) | Object::Unknown(_) => {}
            _ => return self.malformed("it sets attributes of what has none"),
        }
        Ok(())
    }

    fn push(&mut self, object: Object<'a>) -> Result<(), PickleError> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(PickleError::TooLarge);
        }
        self.stack.push(Id(self.objects.len() as u32));
        self.objects.push(object);
        Ok(())
    }

    /// What the innermost `MARK` still protects is no operand.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id, PickleError> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => self.malformed("its stack is empty"),
        }
    }

    fn pop(&mut self) -> Result<Id, PickleError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn above_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => self.malformed("a mark is missing"),
        }
    }

    fn byte(&mut self) -> Result<u8, PickleError> {
        self.array::<1>().map(|[b]| b)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], PickleError> {
        self.take(N).map(|b| b.try_into().expect("as many bytes as asked for"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..length).ok_or(PickleError::Truncated(self.bytes.len()))?;
        self.at += length;
        Ok(taken)
    }

    /// Bytes after their little-endian number, which takes `width` bytes.
    fn counted(&mut self, width: usize) -> Result<&'a [u8], PickleError> {
        let mut length = [0; 8];
        length[..width].copy_from_slice(self.take(width)?);
        match usize::try_from(u64::from_le_bytes(length)) {
            Ok(length) => self.take(length),
            Err(_) => Err(PickleError::Truncated(self.bytes.len())),
        }
    }

    fn text(&mut self, width: usize) -> Result<Object<'a>, PickleError> {
        let bytes = self.counted(width)?;
        std::str::from_utf8(bytes).map(Object::Str).or_else(|_| self.malformed("a string is not UTF-8"))
    }

    fn line(&mut self) -> Result<&'a str, PickleError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n').ok_or(PickleError::Truncated(self.bytes.len()))?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).or_else(|_| self.malformed("a name is not UTF-8"))
    }

    fn malformed<T>(&self, what: &'static str) -> Result<T, PickleError> {
        Err(PickleError::Malformed { at: self.at, what })
    }
}

/// A string of Python 2, which is text by custom and bytes by right.
fn text_or_bytes(bytes: &[u8]) -> Object<'_> {
    std::str::from_utf8(bytes).map_or(Object::Bytes(bytes), Object::Str)
}

/// A little-endian two's complement integer of any length; none is 0.
fn integer(bytes: &[u8]) -> Object<'_> {
    if bytes.len() > 8 {
        return Object::Long(bytes);
    }
    let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Object::Int(i64::from_le_bytes(wide))
}

/// Names of the instructions that are known and refused.
fn instruction_name(code: u8) -> String {
    let name = match code {
        b'i' => "INST",
        b'o' => "OBJ",
        0x92 => "NEWOBJ_EX",
        0x82..=0x84 => "EXT",
        0x91 => "FROZENSET",
        0x97 => "NEXT_BUFFER",
        0x98 => "READONLY_BUFFER",
        b'P' => "PERSID",
        b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' => {
            return format!("`{}` of the text protocol", code as char);
        }
        _ => return format!("{code:#04x}"),
    };
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_built_in_place() {
        // d = {}; d["a"] = [1, (True, None)]; d["b"] = d["a"]
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00a]q\x01(K\x01\x88N\x86eX\x01\x00\x00\x00bh\x01u.rest";
        let pickle = Pickle::read(bytes).unwrap();
        assert_eq!(pickle.length, bytes.len() - 4);
        let Object::Dict(items) = pickle.root() else { panic!("{:?}", pickle.root()) };
        assert_eq!(items[0].1, items[1].1, "shared, not copied");
        let Object::List(list) = pickle.get(items[0].1) else { panic!() };
        assert_eq!(pickle.get(list[0]), &Object::Int(1));
        let Object::Tuple(pair) = pickle.get(list[1]) else { panic!() };
        assert_eq!((pickle.get(pair[0]), pickle.get(pair[1])), (&Object::Bool(true), &Object::None));
    }

    #[test]
    fn calls_are_recorded_only_where_permitted() {
        let pickle = Pickle::read(b"\x80\x02ctorch\nFloatStorage\n)R.").unwrap();
        assert!(matches!(pickle.root(), Object::Call(Global { name: "FloatStorage", .. }, _)));
        let unknown = [
            (&b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."[..], "os.system"),
            (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x01x\x85R.", "builtins.eval"),
            (b"\x80\x02ctorch\nload\n.", "torch.load"),
            // An object of it, called, filled and given attributes.
            (b"\x80\x02cm\nC\n)\x81)RK\x01K\x02s}b.", "m.C"),
        ];
        for (bytes, name) in unknown {
            let pickle = Pickle::read(bytes).unwrap();
            let Object::Unknown(found) = pickle.root() else { panic!("{:?}", pickle.root()) };
            assert_eq!(found.path(), name);
        }
        let refused = [&b"\x80\x02(ios\nsystem\n."[..], b"\x80\x02\x82\x01.", b"S'text'\n."];
        let messages = refused.map(|bytes| Pickle::read(bytes).unwrap_err().to_string());
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[test]
    fn damage_is_an_error() {
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00a]q\x01(K\x01\x88N\x86eX\x01\x00\x00\x00bh\x01u.";
        for length in 0..whole.len() {
            Pickle::read(&whole[..length]).unwrap_err();
        }
        let damaged: [&[u8]; 10] = [
            b"\x80\x09.",
            b".",
            b"a.",
            b"(.",
            b"h\x05.",
            b"K\x01K\x02a.",
            b"}K\x01s.",
            b"}(K\x01u.",
            b"K\x01)R.",
            b"X\xff\xff\xff\xffabc.",
        ];
        for bytes in damaged {
            Pickle::read(bytes).unwrap_err();
        }
    }

    #[test]
    fn integers_of_every_length() {
        assert_eq!(integer(&[]), Object::Int(0));
        assert_eq!(integer(&[0xff]), Object::Int(-1));
        assert_eq!(integer(&[0xff, 0]), Object::Int(255));
        assert!(matches!(integer(&[1; 9]), Object::Long(_)));
    }
}
