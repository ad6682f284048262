//! Opening an ONNX file: mapped, checked, decoded; tensors' data stay where they are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes;

use super::array::{Array, Numbers, Origin};
use super::proto::{self, data_type};
use super::wire;
use crate::mapped::Files;
use crate::opened;
use crate::ops::MAX_ELEMENTS;
use crate::ops::quantized::Levels;
use crate::tensor::Shape;
use crate::weights::FileError;
use crate::weights::entries::{Buffer, Encoding, Entry};
use crate::weights::file::{map, map_file};

/// A decoded model and the files beside it that hold tensors.
pub struct ModelFile {
    /// Where the model's file is; files beside it are found from there.
    pub path: PathBuf,
    /// The messages, in which large tensors are parts of the mapped file.
    pub model: proto::Model,
    external: RefCell<HashMap<PathBuf, Buffer>>,
    files: RefCell<Files>,
}

impl ModelFile {
    /// Maps the file and decodes its messages; files beside it are mapped when a tensor is asked for.
    ///
    /// # Errors
    /// Where the file cannot be read, is none, or would take too much memory.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let mut files = Files::default();
        let mapped = map(path, &mut files)?;
        let bytes = Bytes::from_owner(Shared(mapped));
        let model = decode(bytes).map_err(|e| FileError::new(path, e))?;
        Ok(Self { path: path.into(), model, external: RefCell::default(), files: files.into() })
    }

    /// Makes an input a constant of the model: one number for each of its elements, or one for all. Sizes that the model
    /// leaves open are 1, or the number of numbers where only one is open.
    ///
    /// # Errors
    /// Where there is no such input, or the numbers do not fit its sizes and type.
    pub fn fix(&mut self, input: &str, values: &[f64]) -> Result<(), String> {
        let graph = self.model.graph.as_mut().expect("checked when the file was opened");
        let is_weight = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
        let inputs = || graph.input.iter().filter(|own| !is_weight(&own.name));
        let Some(own) = inputs().find(|own| own.name == input) else {
            let names: Vec<&str> = inputs().map(|own| own.name.as_str()).collect();
            return Err(format!("a value is given for `{input}`, but the inputs are {}", names.join(", ")));
        };
        let ty = own.ty.as_ref().and_then(|ty| ty.tensor_type.as_ref());
        let ty = ty.ok_or_else(|| format!("input {input} is no tensor"))?;
        let tensor = constant_of(input, ty, values).map_err(|e| format!("the value of input {input}: {e}"))?;
        graph.initializer.push(tensor);
        Ok(())
    }

    /// The files that are mapped: the model's, and those beside it that were looked at.
    pub(crate) fn files(&self) -> Files {
        self.files.borrow().clone()
    }

    /// A model that is in memory; external data are looked for beside `path`.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_bytes(path: &Path, bytes: impl AsRef<[u8]> + Send + 'static) -> Result<Self, FileError> {
        let model = decode(Bytes::from_owner(bytes)).map_err(|e| FileError::new(path, e))?;
        Ok(Self { path: path.into(), model, external: RefCell::default(), files: RefCell::default() })
    }

    /// The numbers of a tensor. Those of aligned f32 are not copied.
    ///
    /// # Errors
    /// Where its data are missing, of the wrong length, or of a type that netc does not read.
    pub fn array(&self, tensor: &proto::Tensor) -> Result<Array, String> {
        let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| d.try_into().ok()).collect();
        let count = dims.as_ref().and_then(|d| Shape::new(d.clone()).checked_elements());
        let (Some(dims), Some(count)) = (dims, count.filter(|&c| c <= MAX_ELEMENTS)) else {
            return Err(format!("the sizes {:?} make no sense", tensor.dims));
        };
        let mut numbers = match self.raw(tensor)? {
            Some((bytes, length)) => raw_numbers(tensor.data_type, bytes, length)?,
            None => listed_numbers(tensor)?,
        };
        // Where several share a byte, the last byte may have more than there are.
        if let Numbers::Int(v) = &mut numbers
            && let Some(levels) = data_type::levels(tensor.data_type).filter(|levels| levels.bits < 8)
            && v.len() == count.next_multiple_of(8 / levels.bits)
        {
            Arc::make_mut(v).truncate(count);
        }
        let found = match &numbers {
            Numbers::Float(v) => (**v).as_ref().len(),
            Numbers::Int(v) => v.len(),
        };
        match found == count {
            true => {
                let origin = data_type::levels(tensor.data_type).map(|levels| Arc::new(Origin::Levels(levels)));
                Ok(Array { dims, numbers, origin })
            }
            false => Err(format!("the sizes {dims:?} need {count} numbers, {found} are there")),
        }
    }

    /// The tensor's bytes, where it has them rather than lists of numbers.
    fn raw(&self, tensor: &proto::Tensor) -> Result<Option<(Buffer, std::ops::Range<usize>)>, String> {
        if tensor.data_location == 1 {
            return self.external_range(tensor).map(Some);
        }
        let length = tensor.raw_data.len();
        Ok((length > 0).then(|| (Arc::new(tensor.raw_data.clone()) as Buffer, 0..length)))
    }

    fn external_range(&self, tensor: &proto::Tensor) -> Result<(Buffer, std::ops::Range<usize>), String> {
        let entry = |key: &str| tensor.external_data.iter().find(|p| p.key == key).map(|p| p.value.as_str());
        let number = |key: &str| {
            let value = entry(key).map(str::parse::<usize>).transpose();
            value.map_err(|_| format!("the {key} of its external data is no number"))
        };
        let location = entry("location").ok_or("its external data have no location")?;
        let buffer = self.external_file(location)?;
        let available = (*buffer).as_ref().len();
        let start = number("offset")?.unwrap_or(0);
        let end = number("length")?.map_or(Some(available), |length| start.checked_add(length));
        match end {
            Some(end) if start <= end && end <= available => Ok((buffer, start..end)),
            _ => Err(format!("its external data reach beyond the {available} bytes of {location}")),
        }
    }

    /// A file beside the model, or below its folder: a model may come from anybody, and what it names
    /// becomes part of the result.
    fn external_file(&self, location: &str) -> Result<Buffer, String> {
        let outside = || format!("its external data are in `{location}`, which is not in the model's folder");
        let relative = Path::new(location);
        let is_below = relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !is_below || location.is_empty() {
            return Err(outside());
        }
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let path = folder.join(relative);
        if let Some(buffer) = self.external.borrow().get(&path) {
            return Ok(buffer.clone());
        }
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let file = open_without_waiting(&path).map_err(|e| failed(opened::explained(e, &path)))?;
        // The file that is open is asked where it lies: its name may lead elsewhere by then.
        let real = real_path(&file, &path).map_err(failed)?;
        if !real.starts_with(folder.canonicalize().map_err(failed)?) {
            return Err(format!("{}: it leads to {}", outside(), real.display()));
        }
        if !file.metadata().map_err(failed)?.is_file() {
            return Err(format!("{}: this is no file", path.display()));
        }
        let buffer = map_file(file, &path, &mut self.files.borrow_mut()).map_err(|e| e.to_string())?;
        self.external.borrow_mut().insert(path, buffer.clone());
        Ok(buffer)
    }
}

impl ModelFile {
    /// The model's file and those of its external data that have been read.
    pub fn paths(&self) -> Vec<PathBuf> {
        [self.path.clone()].into_iter().chain(self.external.borrow().keys().cloned()).collect()
    }
}

/// Opens for reading. A pipe that nobody writes to does not hold it up.
/// A tensor of an input's type that has these numbers.
fn constant_of(name: &str, ty: &proto::TensorType, values: &[f64]) -> Result<proto::Tensor, String> {
    let stated = ty.shape.as_ref().map_or(&[][..], |shape| &shape.dim);
    let known: Vec<Option<i64>> = stated.iter().map(|d| d.dim_value.filter(|&size| size > 0)).collect();
    let elements = known.iter().flatten().try_fold(1usize, |all, &size| all.checked_mul(size as usize));
    let elements = elements.filter(|&count| count <= MAX_ELEMENTS).ok_or("it has too many elements")?;
    // The only open size follows from how many there are.
    let is_open = known.iter().filter(|size| size.is_none()).count() == 1;
    let open = if is_open && values.len() > 1 { values.len() / elements } else { 1 };
    let count = elements * open;
    let values = match values {
        &[one] => vec![one; count],
        _ if values.len() == count => values.to_vec(),
        _ => return Err(format!("{} numbers are given, and it takes {count}", values.len())),
    };
    let dims = known.iter().map(|size| size.unwrap_or(open as i64)).collect();
    let tensor = proto::Tensor { name: name.into(), dims, data_type: ty.elem_type, ..Default::default() };
    let whole = |low: f64, high: f64| match values.iter().find(|v| v.fract() != 0.0 || !(low..=high).contains(*v)) {
        Some(other) => Err(format!("{other} is no {}", data_type::name(ty.elem_type))),
        None => Ok(values.iter().map(|&v| v as i64).collect::<Vec<i64>>()),
    };
    let small = |low: f64, high: f64| Ok::<_, String>(whole(low, high)?.into_iter().map(|v| v as i32).collect());
    // Above 2^53 not every whole number is one of f64.
    const MOST: f64 = (1u64 << 53) as f64;
    Ok(match ty.elem_type {
        data_type::FLOAT => proto::Tensor { float_data: values.iter().map(|&v| v as f32).collect(), ..tensor },
        data_type::DOUBLE => proto::Tensor { double_data: values, ..tensor },
        data_type::INT64 => proto::Tensor { int64_data: whole(-MOST, MOST)?, ..tensor },
        data_type::INT32 => proto::Tensor { int32_data: small(i32::MIN.into(), i32::MAX.into())?, ..tensor },
        data_type::INT16 => proto::Tensor { int32_data: small(i16::MIN.into(), i16::MAX.into())?, ..tensor },
        data_type::UINT16 => proto::Tensor { int32_data: small(0.0, u16::MAX.into())?, ..tensor },
        data_type::INT8 => proto::Tensor { int32_data: small(i8::MIN.into(), i8::MAX.into())?, ..tensor },
        data_type::UINT8 => proto::Tensor { int32_data: small(0.0, u8::MAX.into())?, ..tensor },
        data_type::BOOL => proto::Tensor { int32_data: small(0.0, 1.0)?, ..tensor },
        data_type::FLOAT16 => {
            let bits = |&v: &f64| i32::from(half::f16::from_f64(v).to_bits());
            proto::Tensor { int32_data: values.iter().map(bits).collect(), ..tensor }
        }
        other => return Err(format!("an input of {} cannot be a constant", data_type::name(other))),
    })
}

fn open_without_waiting(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
    options.open(path)
}

/// Where an open file lies, with all symbolic links followed.
#[cfg(target_os = "linux")]
fn real_path(file: &File, _: &Path) -> std::io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Where the file of that name lies; elsewhere the system is not asked for that of an open one.
#[cfg(not(target_os = "linux"))]
fn real_path(_: &File, path: &Path) -> std::io::Result<PathBuf> {
    path.canonicalize()
}

struct Shared(Buffer);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

fn decode(bytes: Bytes) -> Result<proto::Model, String> {
    wire::check(&bytes).map_err(|e| e.to_string())?;
    let model = proto::Model::decode(bytes).map_err(|e| format!("this is no undamaged ONNX model: {e}"))?;
    match model.graph {
        Some(_) => Ok(model),
        None => Err("this is no ONNX model: it has no graph".into()),
    }
}

fn raw_numbers(ty: i32, buffer: Buffer, range: std::ops::Range<usize>) -> Result<Numbers, String> {
    let encoding = match ty {
        data_type::FLOAT => Encoding::F32,
        data_type::DOUBLE => Encoding::F64,
        data_type::FLOAT16 => Encoding::F16,
        data_type::BFLOAT16 => Encoding::Bf16,
        _ => return raw_integers(ty, &(*buffer).as_ref()[range]),
    };
    let size = encoding.size().expect("these have one");
    let shape = Shape::from([range.len() / size]);
    if !range.len().is_multiple_of(size) {
        return Err(format!("{} bytes are no whole number of its elements", range.len()));
    }
    let entry = Entry { name: String::new(), shape, encoding, bytes: (buffer, range), strides: None };
    Ok(Numbers::Float(entry.values().expect("floating-point numbers have values")))
}

fn raw_integers(ty: i32, bytes: &[u8]) -> Result<Numbers, String> {
    fn read<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> i64) -> Result<Numbers, String> {
        match bytes.as_chunks::<N>() {
            (chunks, []) => Ok(Numbers::Int(Arc::new(chunks.iter().map(|&c| number(c)).collect()))),
            _ => Err(format!("{} bytes are no whole number of its elements", bytes.len())),
        }
    }
    match ty {
        data_type::INT64 => read(bytes, i64::from_le_bytes),
        data_type::UINT64 => read(bytes, |b| u64::from_le_bytes(b) as i64),
        data_type::INT32 => read(bytes, |b| i32::from_le_bytes(b).into()),
        data_type::UINT32 => read(bytes, |b| u32::from_le_bytes(b).into()),
        data_type::INT16 => read(bytes, |b| i16::from_le_bytes(b).into()),
        data_type::UINT16 => read(bytes, |b| u16::from_le_bytes(b).into()),
        data_type::INT8 => read(bytes, |[b]| (b as i8).into()),
        data_type::UINT8 => read(bytes, |[b]| b.into()),
        data_type::BOOL => read(bytes, |[b]| (b != 0).into()),
        _ => match data_type::levels(ty) {
            Some(levels) => Ok(Numbers::Int(Arc::new(several_a_byte(levels, bytes.iter().copied())))),
            None => Err(not_read(ty)),
        },
    }
}

/// Why numbers of a type are refused, and what helps.
fn not_read(ty: i32) -> String {
    let name = data_type::name(ty);
    let how = if name.starts_with("float") { "; convert them to float16 or float32" } else { "" };
    format!("numbers of type {name} are not read{how}")
}

/// Numbers of less than 8 bits, the lowest bits first.
fn several_a_byte(levels: Levels, bytes: impl Iterator<Item = u8>) -> Vec<i64> {
    let (bits, count) = (levels.bits, 1 << levels.bits);
    let number = |part: i64| if part > levels.high() { part - count } else { part };
    bytes.flat_map(|byte| (0..8 / bits).map(move |i| number(i64::from(byte) >> (i * bits) & (count - 1)))).collect()
}

/// Numbers that the file lists one by one rather than as bytes.
fn listed_numbers(tensor: &proto::Tensor) -> Result<Numbers, String> {
    use crate::weights::entries::f16_to_f32;
    let float = |values: Vec<f32>| Ok(Numbers::Float(Arc::new(values)));
    let int = |values: Vec<i64>| Ok(Numbers::Int(Arc::new(values)));
    let small = &tensor.int32_data;
    match tensor.data_type {
        data_type::FLOAT => float(tensor.float_data.clone()),
        data_type::DOUBLE => float(tensor.double_data.iter().map(|&v| v as f32).collect()),
        data_type::FLOAT16 => float(small.iter().map(|&v| f16_to_f32(v as u16)).collect()),
        data_type::BFLOAT16 => float(small.iter().map(|&v| f32::from_bits((v as u32) << 16)).collect()),
        data_type::INT64 => int(tensor.int64_data.clone()),
        data_type::UINT64 | data_type::UINT32 => int(tensor.uint64_data.iter().map(|&v| v as i64).collect()),
        data_type::INT32 => int(small.iter().map(|&v| v.into()).collect()),
        data_type::BOOL => int(small.iter().map(|&v| (v != 0).into()).collect()),
        ty => match data_type::levels(ty) {
            Some(levels) if levels.bits < 8 => int(several_a_byte(levels, small.iter().map(|&v| v as u8))),
            Some(levels) => {
                let is_none = |v: &&i32| !(levels.low()..=levels.high()).contains(&i64::from(**v));
                match small.iter().find(is_none) {
                    None => int(small.iter().map(|&v| v.into()).collect()),
                    Some(odd) => Err(format!("{odd} is no number of type {}", data_type::name(ty))),
                }
            }
            None => Err(not_read(ty)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::onnx::proto::StringPair;

    fn file() -> ModelFile {
        let model = proto::Model { graph: Some(proto::Graph::default()), ..Default::default() };
        ModelFile::from_bytes(Path::new("/nowhere/model.onnx"), model.encode_to_vec()).unwrap()
    }

    fn tensor(ty: i32, dims: &[i64]) -> proto::Tensor {
        proto::Tensor { data_type: ty, dims: dims.to_vec(), ..Default::default() }
    }

    #[test]
    fn numbers_of_every_type() {
        let raw = |ty, bytes: &[u8]| {
            let raw_data = Bytes::copy_from_slice(bytes);
            file().array(&proto::Tensor { raw_data, ..tensor(ty, &[1]) }).unwrap().to_f64()[0]
        };
        assert_eq!(raw(data_type::FLOAT, &1.5f32.to_le_bytes()), 1.5);
        assert_eq!(raw(data_type::DOUBLE, &1.5f64.to_le_bytes()), 1.5);
        assert_eq!(raw(data_type::FLOAT16, &0x3e00u16.to_le_bytes()), 1.5);
        assert_eq!(raw(data_type::BFLOAT16, &0x3fc0u16.to_le_bytes()), 1.5);
        assert_eq!(raw(data_type::INT64, &(-3i64).to_le_bytes()), -3.0);
        assert_eq!(raw(data_type::INT8, &[0xfd]), -3.0);
        assert_eq!(raw(data_type::UINT8, &[0xfd]), 253.0);
        assert_eq!(raw(data_type::BOOL, &[1]), 1.0);
        let listed = proto::Tensor { int32_data: vec![0x3e00], ..tensor(data_type::FLOAT16, &[1, 1]) };
        assert_eq!(file().array(&listed).unwrap().to_f64(), [1.5]);
    }

    #[test]
    fn tensors_that_are_wrong() {
        let outside = |location: &str| proto::Tensor {
            data_location: 1,
            external_data: vec![StringPair { key: "location".into(), value: location.into() }],
            ..tensor(data_type::FLOAT, &[1])
        };
        let cases = [
            tensor(data_type::FLOAT, &[2, 2]),
            tensor(data_type::FLOAT, &[-1]),
            tensor(data_type::FLOAT, &[1 << 40, 1 << 40]),
            tensor(8, &[1]),
            tensor(99, &[1]),
            proto::Tensor { raw_data: Bytes::from_static(b"abc"), ..tensor(data_type::FLOAT, &[1]) },
            outside("../../etc/passwd"),
            outside("/etc/passwd"),
            outside(""),
            outside("missing.bin"),
        ];
        let messages = cases.map(|t| file().array(&t).unwrap_err());
        insta::assert_snapshot!(messages.join("\n"));
    }

    #[cfg(unix)]
    #[test]
    fn external_data_stay_in_the_models_folder() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (inside, elsewhere) = (root.join("model"), root.join("elsewhere"));
        std::fs::create_dir_all(inside.join("data")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        for place in [inside.join("data/w.bin"), elsewhere.join("w.bin")] {
            std::fs::write(place, 1.5f32.to_le_bytes()).unwrap();
        }
        symlink("data/w.bin", inside.join("within")).unwrap();
        symlink(elsewhere.join("w.bin"), inside.join("link")).unwrap();
        symlink(&elsewhere, inside.join("folder")).unwrap();
        symlink("link", inside.join("chain")).unwrap();
        symlink("/proc/self/environ", inside.join("environment")).unwrap();
        // The model's own folder may be reached through a link.
        symlink(&inside, root.join("alias")).unwrap();
        let read = |model: &Path, location: &str| {
            let graph = proto::Model { graph: Some(proto::Graph::default()), ..Default::default() };
            let external_data = vec![StringPair { key: "location".into(), value: location.into() }];
            let tensor = proto::Tensor { data_location: 1, external_data, ..tensor(data_type::FLOAT, &[1]) };
            ModelFile::from_bytes(model, graph.encode_to_vec()).unwrap().array(&tensor).map(|a| a.to_f64())
        };
        for model in [inside.join("m.onnx"), root.join("alias/m.onnx")] {
            for location in ["data/w.bin", "./data/w.bin", "within"] {
                assert_eq!(read(&model, location), Ok(vec![1.5]), "{location}");
            }
            for location in ["link", "chain", "folder/w.bin", "environment", "data", "../elsewhere/w.bin"] {
                let error = read(&model, location).unwrap_err();
                assert!(
                    error.contains("not in the model's folder") || error.contains("no file"),
                    "{location}: {error}"
                );
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_beside_the_model_does_not_hold_it_up() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let file = ModelFile { path: folder.path().join("m.onnx"), ..file() };
        let error = file.external_file("pipe").map(drop).unwrap_err();
        assert!(error.ends_with("this is no file"), "{error}");
    }
}
