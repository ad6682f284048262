//! HDF5 files: all datasets with their paths, and what is written at their groups.
//!
//! The format itself is the crate `hdf5-reader`'s, which reads nothing but the bytes at hand: links to other files, and
//! values that lie in other files, are errors. What a damaged file could make endless is bounded here: depth, the number of
//! objects, and bytes that chunks are unpacked to.

use std::collections::HashMap;

use hdf5_reader::group::Group;
use hdf5_reader::messages::HdfMessage;
use hdf5_reader::messages::layout::DataLayout;
use hdf5_reader::{Dataset, Datatype, Hdf5File, OpenOptions};

use super::entries::{Buffer, Encoding, Entry};
use crate::archive::unpacked_limit;
use crate::memory::size as bytes_text;
use crate::ops::MAX_ELEMENTS;
use crate::tensor::Shape;

/// What every HDF5 file begins with.
pub(super) const SIGNATURE: &[u8] = b"\x89HDF\r\n\x1a\n";

/// Groups within groups.
const MAX_DEPTH: usize = 32;
/// Groups and datasets of one file. What two links lead to counts twice.
const MAX_OBJECTS: usize = 1 << 18;
/// Bytes of a name.
const MAX_NAME: usize = 4096;
/// Bytes that describe one object.
const MAX_HEADER: usize = 8 << 20;

/// What a file holds.
pub(super) struct Tree {
    /// In the order of their paths in the file. An entry's name is the last part of its path.
    pub datasets: Vec<Placed>,
    /// Attributes `name` of groups, by the groups' paths.
    pub names: HashMap<Vec<String>, String>,
    /// The root's attribute `model_config`.
    pub config: Option<String>,
}

/// A dataset and the groups that lead to it.
pub(super) struct Placed {
    pub groups: Vec<String>,
    pub entry: Entry,
}

struct Bytes(Buffer);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

/// Everything in a file. Values that lie there in one piece stay there; chunks are unpacked, to `memory` bytes at most, or
/// what archives of its size may be unpacked to.
pub(super) fn parse(file: &Buffer, memory: Option<u64>) -> Result<Tree, String> {
    let length = (**file).as_ref().len() as u64;
    let limit = unpacked_limit(length, memory);
    let options = OpenOptions::default()
        // Every chunk is read once.
        .with_chunk_cache_bytes(0)
        .with_max_chunk_bytes(usize::try_from(limit).unwrap_or(usize::MAX))
        .with_max_object_header_bytes(MAX_HEADER);
    let opened = Hdf5File::from_owner(Bytes(file.clone()), options).map_err(damaged)?;
    let root = opened.root_group().map_err(damaged)?;
    let config = root.attribute("model_config").ok().and_then(|config| config.read_string().ok());
    let tree = Tree { datasets: vec![], names: HashMap::new(), config };
    let mut walk = Walk { file, opened: &opened, tree, objects: 0, unpacked: 0, limit };
    walk.group(&root, &mut vec![])?;
    Ok(walk.tree)
}

fn damaged(error: impl std::fmt::Display) -> String {
    format!("this is no undamaged HDF5 file: {error}")
}

struct Walk<'f> {
    file: &'f Buffer,
    opened: &'f Hdf5File,
    tree: Tree,
    objects: usize,
    unpacked: u64,
    limit: u64,
}

impl Walk<'_> {
    fn count(&mut self, name: &str) -> Result<(), String> {
        self.objects += 1;
        if self.objects > MAX_OBJECTS || name.len() > MAX_NAME {
            return Err(damaged("it has too many objects, or names that are too long"));
        }
        Ok(())
    }

    fn group(&mut self, group: &Group, path: &mut Vec<String>) -> Result<(), String> {
        if path.len() > MAX_DEPTH {
            return Err(damaged(format_args!("groups lie within one another more than {MAX_DEPTH} deep")));
        }
        if let Some(name) = group.attribute("name").ok().and_then(|name| name.read_string().ok()) {
            self.tree.names.insert(path.clone(), name);
        }
        let (groups, datasets) = group.members().map_err(damaged)?;
        for dataset in &datasets {
            self.count(dataset.name())?;
            let entry = self.dataset(dataset).map_err(|e| format!("{}: {e}", joined(path, dataset.name())))?;
            self.tree.datasets.push(Placed { groups: path.clone(), entry });
        }
        for group in &groups {
            self.count(group.name())?;
            path.push(group.name().to_string());
            self.group(group, path)?;
            path.pop();
        }
        Ok(())
    }

    fn dataset(&mut self, dataset: &Dataset) -> Result<Entry, String> {
        let dims = dataset.shape().iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<usize>, _>>();
        let shape = Shape::new(dims.map_err(damaged)?);
        if shape.checked_elements().is_none_or(|n| n > MAX_ELEMENTS) {
            return Err(format!("the shape {shape} has too many elements"));
        }
        let name = dataset.name().to_string();
        let encoding = encoding(dataset.dtype());
        let Some(bytes) = encoding.size().map(|size| shape.elements() * size) else {
            return Ok(Entry { name, shape, encoding, bytes: (self.file.clone(), 0..0), strides: None });
        };
        let bytes = match self.in_place(dataset, bytes)? {
            Some(start) => (self.file.clone(), start..start + bytes),
            None => {
                self.unpacked = self.unpacked.saturating_add(bytes as u64);
                if self.unpacked > self.limit {
                    let [unpacked, limit] = [self.unpacked, self.limit].map(bytes_text);
                    return Err(format!(
                        "with it, {unpacked} are unpacked, more than the {limit} that the file may take"
                    ));
                }
                let values = dataset.read_native_bytes().map_err(damaged)?;
                let all = 0..values.len();
                (std::sync::Arc::new(values) as Buffer, all)
            }
        };
        Ok(Entry { name, shape, encoding, bytes, strides: None })
    }

    /// Where the bytes lie that are the dataset's as they are: in one piece, little-endian.
    fn in_place(&self, dataset: &Dataset, bytes: usize) -> Result<Option<usize>, String> {
        use hdf5_reader::ByteOrder::LittleEndian;
        let in_order = match dataset.dtype() {
            Datatype::FixedPoint { byte_order, .. } | Datatype::FloatingPoint { byte_order, .. } => {
                *byte_order == LittleEndian
            }
            _ => false,
        };
        // Behind a user block, addresses are relative to its end.
        if !in_order || self.opened.superblock().base_address != 0 {
            return Ok(None);
        }
        let header = self.opened.get_or_parse_header(dataset.address()).map_err(damaged)?;
        if header.messages.iter().any(|message| matches!(message, HdfMessage::ExternalFiles(_))) {
            return Ok(None);
        }
        let place = header.messages.iter().find_map(|message| match message {
            HdfMessage::DataLayout(layout) => match layout.layout {
                DataLayout::Contiguous { address, size } if size == bytes as u64 => usize::try_from(address).ok(),
                _ => None,
            },
            _ => None,
        });
        let length = (**self.file).as_ref().len();
        Ok(place.filter(|start| start.checked_add(bytes).is_some_and(|end| end <= length)))
    }
}

/// A path as HDF5 writes it.
pub(super) fn joined(groups: &[String], name: &str) -> String {
    groups.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("/")
}

fn encoding(datatype: &Datatype) -> Encoding {
    match *datatype {
        Datatype::FloatingPoint { size: 2, .. } => Encoding::F16,
        Datatype::FloatingPoint { size: 4, .. } => Encoding::F32,
        Datatype::FloatingPoint { size: 8, .. } => Encoding::F64,
        Datatype::FixedPoint { size: 1, signed: true, .. } => Encoding::I8,
        Datatype::FixedPoint { size: 1, signed: false, .. } => Encoding::U8,
        Datatype::FixedPoint { size: 2, signed: true, .. } => Encoding::I16,
        Datatype::FixedPoint { size: 4, signed: true, .. } => Encoding::I32,
        Datatype::FixedPoint { size: 8, signed: true, .. } => Encoding::Other("i64"),
        Datatype::FixedPoint { signed: false, .. } => Encoding::Other("whole numbers without a sign"),
        Datatype::String { .. } | Datatype::VarLen { .. } => Encoding::Other("text"),
        _ => Encoding::Other("a type that netc does not know"),
    }
}
