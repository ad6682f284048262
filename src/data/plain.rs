//! Samples without labels: pictures that lie side by side in a folder, and a single array.

use std::path::{Path, PathBuf};

use super::dataset::{Field, FieldKind, Options, Samples, Value};
use super::error::{DataError, FileCause};
use super::folder::pictures_in;
use crate::image::{DEFAULT_MEMORY, Exif, read_within};
use crate::npy;
use crate::tensor::Tensor;

/// Pictures in one folder.
pub(super) struct Pictures {
    paths: Vec<PathBuf>,
    fields: Vec<Field>,
    memory: u64,
}

impl Pictures {
    /// `None` where there is no picture in the folder itself.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Option<Self>, DataError> {
        let paths = pictures_in(path)?;
        let fields = vec![Field { name: "image".into(), kind: FieldKind::Pictures(None) }];
        let memory = options.memory().min(DEFAULT_MEMORY);
        Ok((!paths.is_empty()).then_some(Self { paths, fields, memory }))
    }
}

impl Samples for Pictures {
    fn count(&self) -> usize {
        self.paths.len()
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        Ok(Value::Picture(read_within(&self.paths[index], Exif::Heeded, self.memory)?))
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }
}

/// An array whose first axis counts samples.
pub(super) struct Rows {
    path: PathBuf,
    array: Tensor,
    fields: Vec<Field>,
}

impl Rows {
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, DataError> {
        let array = npy::read_within(path, options.memory()).map_err(|e| DataError::kind(path, e.cause.to_string()))?;
        let dims = array.shape().dims();
        if dims.contains(&0) || dims.is_empty() {
            let cause =
                FileCause::Array { name: "array".into(), message: format!("its shape {dims:?} has no samples") };
            return Err(DataError::file(path, cause));
        }
        let fields = vec![Field { name: "array".into(), kind: FieldKind::Numbers(dims[1..].to_vec()) }];
        Ok(Self { path: path.into(), array, fields })
    }
}

impl Samples for Rows {
    fn count(&self) -> usize {
        self.array.shape()[0]
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        let row = self.array.len() / self.count();
        Ok(Value::Numbers(self.array.data()[index * row..][..row].to_vec()))
    }

    fn name(&self, index: usize) -> String {
        format!("{}: sample {index}", self.path.display())
    }
}
