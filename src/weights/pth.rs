//! PyTorch checkpoints: `torch.save` of a state dict, or of a dictionary that holds one; and pickles of NumPy's arrays, which
//! are told from them here.
//!
//! Since PyTorch 1.6 a checkpoint is a ZIP archive with a pickle that describes tensors
//! (`data.pkl`) and a member per storage (`data/0`, `data/1`, …). Before, it was a few pickles and
//! then the storages, one after the other. A tensor is a view of a storage: offset, sizes, strides;
//! several may share one. Nothing of a pickle is ever run; see [`super::pickle`].

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::entries::{Buffer, Encoding, Entry};
use super::file::{Choice, Format, below};
use super::load::AVERAGED;
use super::ndarray::{Array, is_array};
use super::pickle::{Global, Id, Object, Pickle};
use crate::archive::Archive;
use crate::ops::MAX_ELEMENTS;
use crate::tensor::Shape;

/// Dictionaries within dictionaries.
const MAX_DEPTH: usize = 16;
/// Tensors of one checkpoint.
const MAX_TENSORS: usize = 1 << 18;
/// Containers visited on the way to them: what one container holds twice is visited twice.
const MAX_VISITS: usize = 1 << 18;
const MAX_NAME: usize = 4096;
/// Keys that a message names.
const MAX_OFFERED: usize = 8;
/// A view may repeat its storage (stride 0); beyond this size it may not be larger.
const MAX_EXPANDED: usize = 1 << 24;
const MAX_RANK: usize = 16;
/// What the first pickle of the old format holds: 0x1950a86a20f9469cfc6c.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Under which names training programs put the state dict, best first.
const WRAPPERS: [&str; 14] = [
    "state_dict_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "params_ema",
    "model_ema",
    "ema",
    "model",
    "params",
    "net",
    "network",
    "weights",
    "module",
    "generator",
];
/// What wrappers of modules put before every name.
const PREFIXES: [&str; 2] = ["module.", "_orig_mod."];

/// The member that describes the tensors, where the archive is a checkpoint.
pub(super) fn describing_member(archive: &Archive) -> Option<String> {
    archive.names().find(|n| *n == "data.pkl" || n.ends_with("/data.pkl")).map(String::from)
}

/// The tensors of a checkpoint, or of the dictionary that it has under `key`.
pub(super) fn parse_archive(
    archive: &mut Archive,
    described_by: &str,
    key: Option<&str>,
) -> Result<(Vec<Entry>, Option<Choice>), String> {
    let folder = described_by.strip_suffix("data.pkl").expect("found by that name").to_string();
    let order = archive.names().find(|n| *n == format!("{folder}byteorder")).map(String::from);
    if let Some(order) = order {
        let (buffer, range) = archive.member(&order)?;
        if (*buffer).as_ref()[range] != *b"little" {
            return Err("the checkpoint's numbers are big-endian".into());
        }
    }
    let (buffer, range) = archive.member(described_by)?;
    let pickle = read_pickle(&(*buffer).as_ref()[range])?;
    let home = buffer.clone();
    let mut members: HashMap<String, (Buffer, Range<usize>)> = HashMap::new();
    tensors(&pickle, &home, key, |key| match members.get(key) {
        Some(found) => Ok(found.clone()),
        None => {
            let found = archive.member(&format!("{folder}data/{key}"))?;
            members.insert(key.into(), found.clone());
            Ok(found)
        }
    })
}

/// Tensors under names, and which of several sets they are.
type Parsed = (Vec<Entry>, Option<Choice>);

/// A pickle that is no archive's: arrays of NumPy, or the format before PyTorch 1.6.
pub(super) fn parse_pickle(file: &Buffer, key: Option<&str>) -> Result<(Format, Parsed), String> {
    let first = read_pickle((**file).as_ref())?;
    match first.root() {
        Object::Long(bytes) if *bytes == LEGACY_MAGIC => Ok((Format::PyTorch, parse_legacy(file, key)?)),
        _ => {
            let arrays = tensors(&first, file, key, |key| Err(format!("storage {key} is missing")));
            let instead = "pickle.dump writes one of arrays, torch.save a checkpoint";
            let arrays = arrays.map_err(|message| match message.as_str() {
                NO_TENSORS => format!("this is a pickle, but it holds no arrays or tensors under names: {instead}"),
                _ => message,
            });
            Ok((Format::Pickle, arrays?))
        }
    }
}

/// The format before PyTorch 1.6: pickles of a magic number, a version, the machine, the tensors
/// and the storages' keys; then each storage, its number of elements first.
fn parse_legacy(file: &Buffer, key: Option<&str>) -> Result<Parsed, String> {
    let bytes = (**file).as_ref();
    let mut at = 0;
    let mut next = || {
        let pickle = read_pickle(&bytes[at..])?;
        at += pickle.length;
        Ok::<_, String>(pickle)
    };
    let _magic = next()?;
    let _version = next()?;
    let _machine = next()?;
    let pickle = next()?;
    let keys = next()?;
    let storages = legacy_storages(bytes, at, &pickle, &keys)?;
    tensors(&pickle, file, key, |key| {
        let range = storages.get(key).ok_or_else(|| format!("storage {key} is missing"))?;
        Ok((file.clone(), range.clone()))
    })
}

fn legacy_storages(
    bytes: &[u8],
    mut at: usize,
    pickle: &Pickle,
    keys: &Pickle,
) -> Result<HashMap<String, Range<usize>>, String> {
    let sizes: HashMap<&str, usize> =
        pickle.persistent_ids().filter_map(|id| Storage::of(pickle, id)).map(|s| (s.key, s.item_size)).collect();
    let Object::List(keys_in_order) = keys.root() else { return Err("the list of storages is missing".into()) };
    let mut storages = HashMap::new();
    for &key in keys_in_order {
        let Object::Str(key) = *keys.get(key) else { return Err("a storage's key is no string".into()) };
        let cut = || format!("the file ends within storage {key}");
        let count = bytes.get(at..at + 8).ok_or_else(cut)?;
        let count = u64::from_le_bytes(count.try_into().expect("eight bytes"));
        let size = sizes.get(key).ok_or_else(|| format!("storage {key} is not described"))?;
        let length = usize::try_from(count).ok().and_then(|n| n.checked_mul(*size)).ok_or_else(cut)?;
        let end = (at + 8).checked_add(length).filter(|&end| end <= bytes.len()).ok_or_else(cut)?;
        storages.insert(key.to_string(), at + 8..end);
        at = end;
    }
    Ok(storages)
}

fn read_pickle(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    Pickle::read(bytes).map_err(|e| e.to_string())
}

const NO_TENSORS: &str = "the checkpoint holds no tensors under names";

/// All tensors of the state dict that the pickle holds, with their bytes, and which of several it was.
/// With a key, those of the dictionary of that name, or whose names begin with it. `home` is what the pickle was read from.
fn tensors(
    pickle: &Pickle,
    home: &Buffer,
    key: Option<&str>,
    mut storage: impl FnMut(&str) -> Result<(Buffer, Range<usize>), String>,
) -> Result<Parsed, String> {
    let mut walk = Walk { pickle, path: vec![], visits: 0, found: vec![] };
    let mut choice = None;
    let named = key.and_then(|key| dictionary(pickle, pickle.root, key));
    walk.collect(state_dict(pickle, named.unwrap_or(pickle.root), 0, &mut choice), String::new())?;
    let mut found = walk.found;
    if found.is_empty() {
        return Err(NO_TENSORS.into());
    }
    if found.iter().any(|(name, _)| name.is_empty()) {
        return Err("the checkpoint is a tensor without a name; torch.save({\"NAME\": tensor}, …) gives it one".into());
    }
    strip_prefixes(&mut found);
    let mut names = HashSet::new();
    if let Some((twice, _)) = found.iter().find(|(name, _)| !names.insert(name.clone())) {
        return Err(format!("two tensors are named {twice}"));
    }
    let entry = |(name, found)| match found {
        Found::View(view) => view.entry(name, &mut storage),
        Found::Array(array) => array.entry(name, home),
    };
    let entries: Vec<Entry> = found.into_iter().map(entry).collect::<Result<_, String>>()?;
    match key.filter(|_| named.is_none()) {
        None => Ok((entries, choice.filter(|_| key.is_none()))),
        Some(key) => {
            let missing = |_| format!("the checkpoint has nothing under `{key}`{}", offered(pickle));
            Ok((below(entries, Some(key)).map_err(missing)?, None))
        }
    }
}

/// The dictionary whose values are the tensors: `id`, or what a well-known key of it leads to. `choice` is
/// told where there was one.
fn state_dict(pickle: &Pickle, id: Id, depth: usize, choice: &mut Option<Choice>) -> Id {
    let Object::Dict(items) = pickle.get(id) else { return id };
    // A few tensors beside a state dict are a program's figures, such as the best accuracy so far.
    let beside = count_tensors(pickle, id);
    let is_state_dict = |name: &&str| {
        value(pickle, id, name).is_some_and(|inner| {
            matches!(pickle.get(inner), Object::Dict(_)) && (beside == 0 || count_tensors(pickle, inner) > beside)
        })
    };
    let Some(taken) = WRAPPERS.into_iter().find(is_state_dict).filter(|_| depth < MAX_DEPTH) else { return id };
    let others = items.iter().filter(|&&(_, value)| count_tensors(pickle, value) > 0);
    let others = others.filter_map(|&(key, value)| match (pickle.get(key), pickle.get(value)) {
        (&Object::Str(name), Object::Dict(_)) if name != taken => Some(name.to_string()),
        _ => None,
    });
    let others: Vec<String> = others.take(MAX_OFFERED).collect();
    if choice.is_none() && !others.is_empty() {
        *choice = Some(Choice { taken: taken.into(), others });
    }
    value(pickle, id, taken).map_or(id, |inner| state_dict(pickle, inner, depth + 1, choice))
}

/// How many values of a dictionary are tensors.
fn count_tensors(pickle: &Pickle, id: Id) -> usize {
    let Object::Dict(items) = pickle.get(id) else { return 0 };
    let is_tensor = |id: Id| match pickle.get(id) {
        Object::Call(function, _) => is_array(function) || function.name.starts_with("_rebuild"),
        _ => false,
    };
    items.iter().filter(|&&(_, value)| is_tensor(value)).count()
}

fn value(pickle: &Pickle, id: Id, name: &str) -> Option<Id> {
    let Object::Dict(items) = pickle.get(id) else { return None };
    items.iter().find(|&&(key, _)| *pickle.get(key) == Object::Str(name)).map(|&(_, value)| value)
}

/// The dictionary that a key leads to, or keys within one another with dots between them.
fn dictionary(pickle: &Pickle, mut id: Id, mut key: &str) -> Option<Id> {
    loop {
        let whole = value(pickle, id, key).filter(|&v| matches!(pickle.get(v), Object::Dict(_)));
        if whole.is_some() {
            return whole;
        }
        let (first, rest) = key.split_once('.')?;
        (id, key) = (value(pickle, id, first)?, rest);
    }
}

/// The keys that could have been meant, for a message.
fn offered(pickle: &Pickle) -> String {
    let Object::Dict(items) = pickle.root() else { return String::new() };
    let dictionaries = items.iter().filter(|&&(_, value)| matches!(pickle.get(value), Object::Dict(_)));
    let keys = dictionaries.filter_map(|&(key, _)| key_text(pickle.get(key)));
    match keys.take(MAX_OFFERED).collect::<Vec<_>>() {
        keys if keys.is_empty() => String::new(),
        keys => format!("; it has {}", keys.join(", ")),
    }
}

/// Gathers the tensors of nested containers.
struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    /// The containers around the current one, against cycles.
    path: Vec<Id>,
    visits: usize,
    found: Vec<(String, Found<'a>)>,
}

/// What has numbers.
enum Found<'a> {
    View(View<'a>),
    Array(Array<'a>),
}

impl<'a> Walk<'_, 'a> {
    /// Tensors at and below `id`, the keys that lead to them joined by dots.
    fn collect(&mut self, id: Id, name: String) -> Result<(), String> {
        let object = self.pickle.get(id);
        let found = match View::of(self.pickle, object, 0)? {
            Some(view) => Some(Found::View(view)),
            None => Array::of(self.pickle, id)?.map(Found::Array),
        };
        if let Some(found) = found {
            self.found.push((name, found));
            return if self.found.len() <= MAX_TENSORS {
                Ok(())
            } else {
                Err(format!("the checkpoint holds more than {MAX_TENSORS} tensors"))
            };
        }
        let children: Vec<(String, Id)> = match object {
            Object::Dict(items) => {
                items.iter().filter_map(|&(k, v)| Some((key_text(self.pickle.get(k))?, v))).collect()
            }
            Object::List(items) | Object::Tuple(items) => {
                items.iter().enumerate().map(|(i, &v)| (i.to_string(), v)).collect()
            }
            _ => return Ok(()),
        };
        self.visits += 1;
        if self.path.contains(&id) || self.path.len() == MAX_DEPTH || self.visits > MAX_VISITS {
            return Err("the checkpoint's containers nest without end".into());
        }
        self.path.push(id);
        for (key, child) in children {
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            if name.len() > MAX_NAME {
                return Err(format!("a name in the checkpoint is longer than {MAX_NAME} bytes"));
            }
            self.collect(child, name)?;
        }
        self.path.pop();
        Ok(())
    }
}

/// What is said of a name that a pickle asks for where tensors are looked for.
fn refused(name: &Global) -> String {
    if name.path().starts_with("__torch__.") {
        return "this is a TorchScript archive; its weights alone are \
                torch.save(torch.jit.load(path).state_dict(), other_path)"
            .into();
    }
    let tensor = match name.name {
        "_rebuild_sparse_tensor" => Some("a tensor is sparse; tensor.to_dense() makes one that netc reads"),
        "_rebuild_qtensor" => Some("a tensor is quantized; tensor.dequantize() makes one that netc reads"),
        "_rebuild_nested_tensor" => Some("a tensor is nested, parts of other sizes; save its parts one by one"),
        "_rebuild_meta_tensor_no_storage" => {
            Some("a tensor is on the device `meta`: the checkpoint has no values of it")
        }
        _ => None,
    };
    if let Some(why) = tensor {
        return why.into();
    }
    format!(
        "the pickle asks for `{}`, which netc does not run: only tensors in dictionaries, lists and tuples are read. Save the \
         state dict alone: torch.save(model.state_dict(), path)",
        name.path()
    )
}

fn key_text(key: &Object) -> Option<String> {
    match key {
        Object::Str(text) => Some(text.to_string()),
        Object::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `DataParallel`, `torch.compile` and `AveragedModel` put a prefix before every name. The last has a counter beside
/// them.
fn strip_prefixes(found: &mut [(String, Found)]) {
    let mut named: Vec<&mut String> = found.iter_mut().map(|(name, _)| name).filter(|n| *n != AVERAGED).collect();
    while let Some(prefix) = PREFIXES.iter().find(|p| !named.is_empty() && named.iter().all(|n| n.starts_with(**p))) {
        named.iter_mut().for_each(|name| drop(name.drain(..prefix.len())));
    }
}

/// A tensor: a part of a storage.
struct View<'a> {
    storage: Storage<'a>,
    encoding: Encoding,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// `('storage', torch.FloatStorage, key, device, number of elements)`
struct Storage<'a> {
    encoding: Encoding,
    item_size: usize,
    key: &'a str,
}

impl<'a> Storage<'a> {
    fn of(pickle: &Pickle<'a>, id: Id) -> Option<Self> {
        let Object::Tuple(parts) = pickle.get(id) else { return None };
        let [kind, class, key, _device, _count, view @ ..] = parts.as_slice() else { return None };
        let (Object::Str("storage"), Object::Global(class), &Object::Str(key)) =
            (pickle.get(*kind), pickle.get(*class), pickle.get(*key))
        else {
            return None;
        };
        // Views of storages are older than anything that is still around.
        if view.iter().any(|v| *pickle.get(*v) != Object::None) {
            return None;
        }
        let (encoding, item_size) = number_type(class)?;
        Some(Self { encoding, item_size, key })
    }
}

/// The type of number that a storage class or a dtype stands for, and its bytes.
fn number_type(class: &Global) -> Option<(Encoding, usize)> {
    Some(match class.name {
        "FloatStorage" | "float32" => (Encoding::F32, 4),
        "DoubleStorage" | "float64" => (Encoding::F64, 8),
        "HalfStorage" | "float16" => (Encoding::F16, 2),
        "BFloat16Storage" | "bfloat16" => (Encoding::Bf16, 2),
        "LongStorage" | "int64" => (Encoding::Other("i64"), 8),
        "IntStorage" | "int32" => (Encoding::I32, 4),
        "ShortStorage" | "int16" => (Encoding::I16, 2),
        "CharStorage" | "int8" => (Encoding::I8, 1),
        "ByteStorage" | "uint8" | "UntypedStorage" => (Encoding::U8, 1),
        "BoolStorage" | "bool" => (Encoding::Other("bool"), 1),
        "uint16" => (Encoding::Other("u16"), 2),
        "uint32" => (Encoding::Other("u32"), 4),
        "uint64" => (Encoding::Other("u64"), 8),
        "ComplexFloatStorage" | "complex64" => (Encoding::Other("complex64"), 8),
        "ComplexDoubleStorage" | "complex128" => (Encoding::Other("complex128"), 16),
        "float8_e4m3fn" | "float8_e5m2" | "float8_e4m3fnuz" | "float8_e5m2fnuz" => (Encoding::Other("float8"), 1),
        _ => return None,
    })
}

/// What is said of a tensor of numbers of which not even the size is known.
fn unread(pickle: &Pickle, storage: Id, dtype: Option<Id>) -> Option<String> {
    let Object::Persistent(id) = pickle.get(storage) else { return None };
    let Object::Tuple(parts) = pickle.get(*id) else { return None };
    let unknown = |&id: &Id| match pickle.get(id) {
        Object::Unknown(class) => Some(class.path()),
        Object::Global(class) => number_type(class).is_none().then(|| class.path()),
        _ => None,
    };
    let found = dtype.iter().chain(parts.get(1)).find_map(unknown)?;
    Some(format!("a tensor is of `{found}`, which netc does not read; save it as float32"))
}

impl<'a> View<'a> {
    /// The tensor that a call rebuilds; `None` where the object is none.
    fn of(pickle: &Pickle<'a>, object: &Object<'a>, depth: usize) -> Result<Option<Self>, String> {
        let (function, arguments) = match object {
            Object::Call(function, arguments) => (function, arguments),
            Object::Unknown(name) => return Err(refused(name)),
            _ => return Ok(None),
        };
        let Object::Tuple(arguments) = pickle.get(*arguments) else { return Ok(None) };
        let misshapen = || format!("a call of {} has other arguments than PyTorch gives it", function.path());
        match (function.name, arguments.as_slice()) {
            ("_rebuild_parameter" | "_rebuild_parameter_with_state", [inner, ..]) if depth < MAX_DEPTH => {
                Self::of(pickle, pickle.get(*inner), depth + 1)
            }
            // (function, class, its arguments, state)
            ("_rebuild_from_type_v2", [function, class, inner, _]) if depth < MAX_DEPTH => {
                match (pickle.get(*function), pickle.get(*class)) {
                    (Object::Unknown(name), _) | (_, Object::Unknown(name)) => Err(refused(name)),
                    (Object::Global(function), _) => Self::of(pickle, &Object::Call(*function, *inner), depth + 1),
                    _ => Err(misshapen()),
                }
            }
            ("_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
                Self::rebuilt(pickle, [*storage, *offset, *shape, *strides], None)
                    .ok_or_else(|| unread(pickle, *storage, None).unwrap_or_else(misshapen))
                    .map(Some)
            }
            ("_rebuild_tensor_v3", [storage, offset, shape, strides, _, _, dtype, ..]) => {
                Self::rebuilt(pickle, [*storage, *offset, *shape, *strides], Some(*dtype))
                    .ok_or_else(|| unread(pickle, *storage, Some(*dtype)).unwrap_or_else(misshapen))
                    .map(Some)
            }
            (name, _) if name.starts_with("_rebuild") => Err(misshapen()),
            _ => Ok(None),
        }
    }

    fn rebuilt(pickle: &Pickle<'a>, [storage, offset, shape, strides]: [Id; 4], dtype: Option<Id>) -> Option<Self> {
        let Object::Persistent(id) = pickle.get(storage) else { return None };
        let mut storage = Storage::of(pickle, *id)?;
        if let Some(dtype) = dtype {
            let Object::Global(dtype) = pickle.get(dtype) else { return None };
            (storage.encoding, storage.item_size) = number_type(dtype)?;
        }
        let (shape, strides) = (sizes(pickle, shape)?, sizes(pickle, strides)?);
        (shape.len() == strides.len()).then_some(())?;
        Some(Self { encoding: storage.encoding, storage, offset: size(pickle, offset)?, shape, strides })
    }

    fn entry(
        self,
        name: String,
        storage: &mut impl FnMut(&str) -> Result<(Buffer, Range<usize>), String>,
    ) -> Result<Entry, String> {
        let (buffer, range) = storage(self.storage.key)?;
        let available = range.len() / self.storage.item_size;
        let shape = Shape::new(self.shape);
        let beyond = || format!("{name} {shape} reaches beyond its storage of {available} numbers");
        let elements = shape.checked_elements().filter(|&n| n <= MAX_ELEMENTS).ok_or_else(beyond)?;
        if elements > available.max(MAX_EXPANDED) {
            return Err(beyond());
        }
        let reach = if elements == 0 { Some(0) } else { reach(shape.dims(), &self.strides) };
        let end = reach.and_then(|r| self.offset.checked_add(r)).filter(|&e| e <= available).ok_or_else(beyond)?;
        let bytes = range.start + self.offset * self.storage.item_size..range.start + end * self.storage.item_size;
        let in_order = is_row_major(shape.dims(), &self.strides);
        let strides = (!in_order).then_some(self.strides);
        Ok(Entry { name, shape, encoding: self.encoding, bytes: (buffer, bytes), strides })
    }
}

/// One past the farthest element of a view that is not empty.
fn reach(dims: &[usize], strides: &[usize]) -> Option<usize> {
    dims.iter().zip(strides).try_fold(1usize, |end, (d, s)| end.checked_add((d - 1).checked_mul(*s)?))
}

/// Axes of one element have any stride.
fn is_row_major(dims: &[usize], strides: &[usize]) -> bool {
    let mut due = 1;
    dims.iter().zip(strides).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || stride == due;
        due *= dim;
        fits
    })
}

fn size(pickle: &Pickle, id: Id) -> Option<usize> {
    match *pickle.get(id) {
        Object::Int(n) => n.try_into().ok(),
        _ => None,
    }
}

/// A tuple or list of sizes, few enough for a tensor.
pub(super) fn sizes(pickle: &Pickle, id: Id) -> Option<Vec<usize>> {
    match pickle.get(id) {
        Object::Tuple(items) | Object::List(items) if items.len() <= MAX_RANK => {
            items.iter().map(|&item| size(pickle, item)).collect()
        }
        _ => None,
    }
}
