//! Folders of pictures: a folder a class, classes by their names.

use std::fs;
use std::path::{Path, PathBuf};

use super::dataset::{Field, FieldKind, Options, Samples, Value};
use super::error::{DataError, FileCause};
use crate::image::{DEFAULT_MEMORY, EXTENSIONS, Exif, read_within};

pub(super) struct Folder {
    /// Pictures and the numbers of their classes, class by class.
    pictures: Vec<(PathBuf, u32)>,
    fields: Vec<Field>,
    classes: Vec<String>,
    memory: u64,
}

/// The folders in a folder by their names, but for hidden ones.
pub(super) fn subfolders(path: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let mut found = vec![];
    for entry in fs::read_dir(path).map_err(DataError::unopened(path))? {
        let entry = entry.map_err(|e| DataError::file(path, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(['.', '_']) && entry.path().is_dir() {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&&*e))
}

pub(crate) fn pictures_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).map_err(|e| DataError::file(folder, e))? {
        let path = entry.map_err(|e| DataError::file(folder, e))?.path();
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_picture(&path) && !is_hidden && path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

impl Folder {
    /// `None` where no folder in it holds a picture.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Option<Self>, DataError> {
        let (mut pictures, mut classes, mut empty) = (vec![], vec![], None);
        for (class, folder) in subfolders(path)? {
            let found = pictures_in(&folder)?;
            if found.is_empty() && empty.is_none() {
                empty = Some((class.clone(), folder));
            }
            pictures.extend(found.into_iter().map(|picture| (picture, classes.len() as u32)));
            classes.push(class);
        }
        match empty {
            _ if pictures.is_empty() => return Ok(None),
            Some((class, folder)) => return Err(DataError::file(&folder, FileCause::EmptyClass(class))),
            None => {}
        }
        let fields = vec![Field { name: "image".into(), kind: FieldKind::Pictures(None) }];
        Ok(Some(Self { pictures, fields, classes, memory: options.memory().min(DEFAULT_MEMORY) }))
    }
}

impl Samples for Folder {
    fn count(&self) -> usize {
        self.pictures.len()
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        Ok(Value::Picture(read_within(&self.pictures[index].0, Exif::Heeded, self.memory)?))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn numbers_what_is_there(&self) -> bool {
        true
    }

    fn label_shape(&self) -> Option<&[usize]> {
        Some(&[])
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        vec![i64::from(self.pictures[index].1)]
    }

    fn name(&self, index: usize) -> String {
        self.pictures[index].0.display().to_string()
    }
}
