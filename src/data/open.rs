//! What is at a path, seen from names and first bytes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cifar::{self, Cifar};
use super::dataset::{Dataset, Options, Part, Samples};
use super::error::{DataError, FileCause};
use super::folder::{Folder, subfolders};
use super::idx::{self, Idx};
use super::npz::Npz;
use super::plain::{Pictures, Rows};
use crate::npy;

/// What a folder is searched for.
const LOOKED_FOR: &str = "a folder of pictures (.png, .jpg, .webp, …) for each class, idx files \
    (train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k-… for the test, also .gz), CIFAR's binary files \
    (data_batch_1.bin …, test_batch.bin; train.bin, test.bin), and train.npz (test.npz)";

/// Where data sets are within what is unpacked or downloaded.
const BELOW: [&str; 6] =
    ["cifar-10-batches-bin", "cifar-100-binary", "raw", "MNIST/raw", "FashionMNIST/raw", "KMNIST/raw"];

pub(super) fn open(path: &Path, options: &Options) -> Result<Dataset, DataError> {
    let status = fs::metadata(path).map_err(DataError::unopened(path))?;
    let samples = if status.is_dir() { folder(path, options)? } else { file(path, options)? };
    Dataset::of(path, samples)
}

/// As [`open`]; also a folder of pictures without classes, and an array of samples without labels.
pub(super) fn open_unlabelled(path: &Path, options: &Options) -> Result<Dataset, DataError> {
    let status = fs::metadata(path).map_err(DataError::unopened(path))?;
    if status.is_dir()
        && let Some(pictures) = Pictures::open(path, options)?
    {
        return Dataset::of(path, Arc::new(pictures));
    }
    if status.is_file() && npy::is_npy(path).map_err(DataError::unopened(path))? {
        return Dataset::of(path, Arc::new(Rows::open(path, options)?));
    }
    open(path, options)
}

fn file(path: &Path, options: &Options) -> Result<Arc<dyn Samples>, DataError> {
    let mut start = vec![];
    let read = |start: &mut Vec<u8>| File::open(path)?.take(4).read_to_end(start);
    read(&mut start).map_err(|e| DataError::file(path, e))?;
    let is_gzip = start.starts_with(b"\x1f\x8b");
    match &start[..] {
        [b'P', b'K', 3 | 5, ..] => Ok(Arc::new(Npz::open(path, options)?)),
        start if is_gzip || idx::is_idx(start) => Ok(Arc::new(Idx::open(path, &labels_beside(path)?, options)?)),
        _ if path.file_name().is_some_and(|name| cifar::is_cifar(&name.to_string_lossy())) => {
            Ok(Arc::new(Cifar::open(&[path.to_path_buf()])?))
        }
        _ => {
            let known = "this is no data set that netc reads: a folder, idx files, CIFAR's binary files \
                (data_batch_1.bin, train.bin), or a NumPy archive (.npz)";
            Err(DataError::kind(path, known))
        }
    }
}

/// The labels of `train-images-idx3-ubyte` are in `train-labels-idx1-ubyte`, plain or compressed.
fn labels_beside(pictures: &Path) -> Result<PathBuf, DataError> {
    let name = pictures.file_name().unwrap_or_default().to_string_lossy();
    let name = name.trim_end_matches(".gz").replace("images", "labels").replace("idx3", "idx1");
    let beside = [pictures.with_file_name(&name), pictures.with_file_name(format!("{name}.gz"))];
    let found = beside.iter().find(|labels| labels.is_file() && *labels != pictures);
    found.cloned().ok_or_else(|| {
        let looked_for = format!("its labels: {name} or {name}.gz, beside a file whose name has `images` in it");
        DataError::file(pictures, FileCause::NothingFound(looked_for))
    })
}

fn folder(path: &Path, options: &Options) -> Result<Arc<dyn Samples>, DataError> {
    let names = file_names(path)?;
    if let Some(pictures) = idx_pictures(path, &names, options.part)? {
        return Ok(Arc::new(Idx::open(&pictures, &labels_beside(&pictures)?, options)?));
    }
    let batches = cifar::files_of(&names, options.part);
    if !batches.is_empty() {
        let paths: Vec<PathBuf> = batches.into_iter().map(|name| path.join(name)).collect();
        return Ok(Arc::new(Cifar::open(&paths)?));
    }
    let words: &[&str] = if options.part == Part::Train { &["train"] } else { &["test", "val", "valid", "validation"] };
    for word in words {
        let archive = path.join(format!("{word}.npz"));
        if archive.is_file() {
            return Ok(Arc::new(Npz::open(&archive, options)?));
        }
    }
    // Pictures in `train/CLASS` and `test/CLASS`.
    let folders = subfolders(path)?;
    let holds = |word: &str| folders.iter().any(|(name, _)| name == word);
    if holds("train")
        && ["test", "val", "valid", "validation"].into_iter().any(holds)
        && let Some(word) = words.iter().find(|word| holds(word))
        && let Some(pictures) = Folder::open(&path.join(word), options)?
    {
        return Ok(Arc::new(pictures));
    }
    for below in BELOW.iter().map(|name| path.join(name)).filter(|below| below.is_dir()) {
        // A folder of that name with pictures in it is a class.
        let names = file_names(&below)?;
        let has = |part| cifar::files_of(&names, part).len() + names.iter().filter(|n| is_idx_of(n, part)).count() > 0;
        if has(Part::Train) || has(Part::Test) {
            return folder(&below, options);
        }
    }
    match Folder::open(path, options)? {
        Some(pictures) => Ok(Arc::new(pictures)),
        None => Err(DataError::file(path, FileCause::NothingFound(LOOKED_FOR.into()))),
    }
}

fn file_names(path: &Path) -> Result<Vec<String>, DataError> {
    let mut names = vec![];
    for entry in fs::read_dir(path).map_err(DataError::unopened(path))? {
        let entry = entry.map_err(|e| DataError::file(path, e))?;
        if entry.path().is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Whether a file has the name of one with pictures of a part.
fn is_idx_of(name: &str, part: Part) -> bool {
    let words: &[&str] = if part == Part::Train { &["train-images"] } else { &["t10k-images", "test-images"] };
    name.contains("ubyte") && words.iter().any(|word| name.contains(word))
}

/// The one file of pictures of a part, of which a plain one comes before a compressed one.
fn idx_pictures(path: &Path, names: &[String], part: Part) -> Result<Option<PathBuf>, DataError> {
    let mut found: Vec<&String> = names.iter().filter(|name| is_idx_of(name, part)).collect();
    let plain: Vec<&String> = found.clone();
    found.retain(|name| name.strip_suffix(".gz").is_none_or(|stem| !plain.iter().any(|other| *other == stem)));
    match found[..] {
        [] => Ok(None),
        [name] => Ok(Some(path.join(name))),
        _ => {
            let all: Vec<&str> = found.iter().map(|name| name.as_str()).collect();
            Err(DataError::file(path, FileCause::Several(all.join(", "))))
        }
    }
}
