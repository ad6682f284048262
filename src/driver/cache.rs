//! Compiled models in a folder, so that a network is compiled once.
//!
//! ```text
//! source, settings, target, version ─key─▶ KEY.json: files that it was made of, with hashes ─▶ KEY.netc
//! ```
//!
//! A key is the SHA-256 of all that is known without reading the network. The list beside it names the files that a
//! compilation read; where all of them still have their hashes (asked of the system first: size, times and number of a file
//! that is the same need no reading), the model is opened, and each byte of it is compared with its checksum. Whatever is
//! missing, damaged or of another version counts as not there, and is made anew.
//!
//! Where the file system takes no files, or no more of them, models are compiled as without a cache, and what is there is still
//! opened: a cache that was filled may come with a read-only image.
//!
//! Files appear by renaming, so that processes may share the folder. What is open stays open when another process removes it;
//! between the writing of a model and its opening, the lock on a file of the folder keeps others from removing it.
//! The folder is its owner's alone: a compiled model is a program, and somebody who could write there could have it run.

#![allow(unsafe_code)] // Opens compiled models that this folder's owner wrote.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::error::takes_no_files;
use super::hash::{ContentHash, hash_file};
use super::recipe::IN_MEMORY;
use super::weights::weights_beside;
use super::{Compiler, Error, ModelFile, Network, NetworkSource};
use crate::artifact::OpenError;
use crate::mapped::{Stamp, Status};
use crate::opened;
use crate::output::OutputFile;
use crate::runtime::{Model, ModelOptions, Verify};

/// A folder of compiled models, of a limited size.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use netc::{Cache, Compiler, NetworkSource};
///
/// let cache = Cache::open("/home/me/.cache/netc/models")?;
/// let source = NetworkSource::File("resnet34.onnx".into());
/// let model = source.compile_cached(&[Compiler::new()], &cache)?; // in milliseconds, the second time
/// # let _ = model; Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
    most_bytes: u64,
}

/// Bytes that a cache takes, where nothing is said.
const MOST_BYTES: u64 = 4 << 30;

/// A list may have no more bytes than this.
const MAX_LIST: u64 = 1 << 20;

/// Digits of a key's name: SHA-256 in base 16.
const KEY_DIGITS: usize = 64;

/// What a compilation is known by before the network is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(ContentHash);

/// What a model was made of, and which file it is.
#[derive(Serialize, Deserialize)]
struct Made {
    files: Vec<MadeOf>,
    /// The name of its file.
    model: String,
}

/// A file that was read, by its whole path, with its hash and what the system says of it.
#[derive(Serialize, Deserialize)]
struct MadeOf {
    path: PathBuf,
    hash: String,
    /// None where the system's word is not enough.
    status: Option<Status>,
}

/// A model of the cache, and the files that it was made of.
pub(crate) struct Found {
    pub model: Model,
    pub files: Vec<PathBuf>,
}

impl Cache {
    /// The cache in this folder, which is made where there is none.
    ///
    /// # Errors
    /// Where it cannot be made, is no folder, or others than its owner may write to it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let named = |cause| Error::Cache { path: folder.clone(), cause };
        if folder.exists() && !folder.is_dir() {
            return Err(named(io::Error::new(io::ErrorKind::NotADirectory, "it is a file, and no folder")));
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).and_then(|()| check_owner(&folder)).map_err(named)?;
        let folder = std::path::absolute(&folder).map_err(named)?;
        Ok(Self { folder, most_bytes: MOST_BYTES })
    }

    /// Bytes that the cache may take; 4 GiB otherwise. Where a model comes to more, those that were not used for the longest
    /// time are removed.
    pub fn limited_to(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// What `source` compiled by `compilers` is known by. `more` is what else decides about the result.
    ///
    /// # Errors
    /// Where the current folder is not to be had.
    pub(crate) fn key(
        &self,
        source: &NetworkSource,
        compilers: &[Compiler],
        more: &dyn std::fmt::Debug,
    ) -> Result<Key, Error> {
        use std::fmt::Write;
        let named = |cause| Error::Cache { path: self.folder.clone(), cause };
        let mut text =
            format!("{} {:?} {more:?}\n", env!("CARGO_PKG_VERSION"), std::env::current_dir().map_err(named)?);
        match source {
            NetworkSource::File(path) => {
                let path = std::path::absolute(path).map_err(named)?;
                let _ = writeln!(text, "file {path:?}");
                // Whether weights lie beside it decides which are taken.
                for compiler in compilers {
                    let beside = weights_beside(&path, compiler.model.as_deref());
                    let _ = writeln!(text, "beside {beside:?} {}", beside.is_file());
                }
            }
            NetworkSource::Text { name, text: spec } => {
                let _ = writeln!(text, "text {name:?} {}", ContentHash::of(spec.as_bytes()));
            }
            NetworkSource::Bytes { name, bytes } => {
                let _ = writeln!(text, "bytes {name:?} {}", ContentHash::of(bytes));
            }
            NetworkSource::Compiled(path) => {
                let _ = writeln!(text, "compiled {:?}", std::path::absolute(path).map_err(named)?);
            }
            NetworkSource::Open(model) => {
                let texts = model.texts().map_err(|cause| OpenError { path: IN_MEMORY.into(), cause })?;
                let made_of = format!("{:?} {texts:?}", model.about());
                let _ = writeln!(text, "open {}", ContentHash::of(made_of.as_bytes()));
            }
        }
        for compiler in compilers {
            // How a model runs is no part of it, nor who watches.
            let settings = Compiler { observer: None, options: ModelOptions::default(), ..compiler.clone() };
            let _ = writeln!(text, "{settings:?}");
        }
        Ok(Key(ContentHash::of(text.as_bytes())))
    }

    /// The model of a key, where there is one that was made of what there is now.
    pub(crate) fn find(&self, key: Key, options: ModelOptions) -> Option<Found> {
        let list = self.list(key);
        let made: Made = serde_json::from_slice(&read_list(&list).ok()?).ok()?;
        if !made.files.iter().all(MadeOf::is_unchanged) {
            return None;
        }
        let path = self.folder.join(&made.model);
        if path.parent() != Some(&self.folder) {
            return None;
        }
        // SAFETY: the folder is its owner's alone, who had netc write the file; it is replaced by renaming only. That it is
        // whole is compared before anything of it runs.
        let model = unsafe { Model::open_with(&path, options.verify(Verify::Eager)) }.ok()?;
        // When it was last used; a failure costs no more than a place in the order. The model's own file stays as it is: whoever
        // has it open watches its times.
        let _ = File::options().append(true).open(&list).and_then(|list| list.set_modified(SystemTime::now()));
        Some(Found { model, files: made.files.into_iter().map(|file| file.path).collect() })
    }

    /// Compiles optimized networks into the cache, and opens what comes of it.
    ///
    /// # Errors
    /// Where one cannot be compiled, or nothing can be written to the folder.
    pub(crate) fn store(
        &self,
        key: Key,
        source: &NetworkSource,
        networks: impl IntoIterator<Item = Result<(Compiler, Network), Error>>,
        options: ModelOptions,
    ) -> Result<Model, Error> {
        let named = |cause| Error::Cache { path: self.folder.clone(), cause };
        let name = format!("{}.netc", key.0);
        let path = self.folder.join(&name);
        let mut file = ModelFile::create(&path)?;
        let mut files: Vec<MadeOf> = vec![];
        for network in networks {
            let (compiler, network) = network?;
            // Asked before the compilation ends: what is changed meanwhile has other times then.
            for made_of in made_of(source, &network, &compiler).map_err(named)? {
                if !files.iter().any(|known| known.path == made_of.path) {
                    files.push(made_of);
                }
            }
            file.add(&compiler, &network)?;
        }
        let kept = self.lock(File::lock_shared);
        file.finish()?;
        let list = OutputFile::create(&self.list(key)).map_err(named)?;
        let text = serde_json::to_vec(&Made { files, model: name }).map_err(io::Error::other).map_err(named)?;
        list.file().write_all(&text).and_then(|()| list.commit()).map_err(named)?;
        // SAFETY: it was just written, by this process into its owner's folder.
        let model = unsafe { Model::open_with(&path, options) };
        drop(kept);
        self.shrink(&path);
        Ok(model?)
    }

    /// Holds the lock of the folder until the file is dropped: shared by those who have written a model and are about to open
    /// it, alone by one who removes models. None where the file system has no locks.
    fn lock(&self, how: fn(&File) -> io::Result<()>) -> Option<File> {
        let file = File::options().create(true).append(true).open(self.folder.join("lock")).ok()?;
        how(&file).ok()?;
        Some(file)
    }

    fn list(&self, key: Key) -> PathBuf {
        self.folder.join(format!("{}.json", key.0))
    }

    /// Removes what was not used for the longest time until the rest fits. What others remove meanwhile is no matter, and what
    /// cannot be removed stays.
    fn shrink(&self, newest: &Path) {
        let _alone = self.lock(File::lock);
        let Ok(files) = fs::read_dir(&self.folder) else { return };
        // A model and its list by their common name: when they were used, their bytes, and themselves.
        let mut entries: BTreeMap<PathBuf, (SystemTime, u64, Vec<PathBuf>)> = BTreeMap::new();
        for file in files.flatten() {
            let path = file.path();
            let is_kind = path.extension().is_some_and(|kind| kind == "netc" || kind == "json");
            // Whatever else lies in the folder is its owner's.
            let is_own = is_kind && path.file_stem().and_then(|stem| stem.to_str()).is_some_and(is_key);
            let Some(status) = file.metadata().ok().filter(|status| is_own && status.is_file()) else { continue };
            let used = status.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let entry = entries.entry(path.with_extension("")).or_insert((used, 0, vec![]));
            *entry = (entry.0.max(used), entry.1 + status.len(), std::mem::take(&mut entry.2));
            entry.2.push(path);
        }
        let mut bytes: u64 = entries.values().map(|(_, bytes, _)| bytes).sum();
        entries.remove(&newest.with_extension(""));
        let mut entries: Vec<_> = entries.into_values().collect();
        entries.sort();
        for (_, size, paths) in entries {
            if bytes <= self.most_bytes {
                return;
            }
            if paths.iter().all(|path| fs::remove_file(path).is_ok()) {
                bytes -= size;
            }
        }
    }
}

impl NetworkSource {
    /// As [`Self::compile_sizes`], where the cache has no such model of the same files yet; else it is opened. What was
    /// compiled is kept there.
    ///
    /// # Errors
    /// As [`Self::compile_sizes`], and where nothing may be written to the cache. Where it is full, or read-only, the model is
    /// compiled and not kept.
    ///
    /// # Panics
    /// Without a compiler.
    pub fn compile_cached(&self, compilers: &[Compiler], cache: &Cache) -> Result<Model, Error> {
        let options = compilers[0].options;
        let key = cache.key(self, compilers, &())?;
        match cache.find(key, options) {
            Some(found) => Ok(found.model),
            None => match cache.store(key, self, compilers.iter().map(|compiler| self.optimized(compiler)), options) {
                Err(error) if error.is_full() => {
                    // They have told what there is to tell.
                    let quiet = |compiler: &Compiler| Compiler { observer: None, ..compiler.clone() };
                    self.compile_sizes(&compilers.iter().map(quiet).collect::<Vec<_>>())
                }
                stored => stored,
            },
        }
    }
}

impl MadeOf {
    /// A file of which bytes with this hash were read.
    fn of(path: &Path, hash: Option<ContentHash>) -> io::Result<Self> {
        let file = opened::open(path)?;
        // What is written to it from here on shows in its times.
        Stamp::of(&file)?.outlive_tick();
        let status = Status::of(&file)?;
        let now = hash_file(&file)?;
        let read = hash.unwrap_or(now);
        let status = Some(status).filter(|status| status.tells() && read == now);
        Ok(Self { path: path.into(), hash: read.to_string(), status })
    }

    /// Whether the file is what it was: the system says so, or its bytes do.
    fn is_unchanged(&self) -> bool {
        let Ok(file) = opened::open(&self.path) else { return false };
        let is_same = self.status.as_ref().is_some_and(|was| Status::of(&file).is_ok_and(|now| now == *was));
        is_same || hash_file(&file).is_ok_and(|hash| hash.to_string() == self.hash)
    }
}

/// The files that a network was made of.
fn made_of(source: &NetworkSource, network: &Network, compiler: &Compiler) -> io::Result<Vec<MadeOf>> {
    let read = network.content().map(|(path, hash)| (path.to_path_buf(), Some(hash)));
    let mut read: Vec<(PathBuf, Option<ContentHash>)> = match source {
        // What is in memory is in the key; of what was read it is the first.
        NetworkSource::Text { name, .. } | NetworkSource::Bytes { name, .. } => {
            read.filter(|(path, _)| path != name).collect()
        }
        NetworkSource::Open(_) => read.collect(),
        NetworkSource::File(path) | NetworkSource::Compiled(path) => read.chain([(path.clone(), None)]).collect(),
    };
    let more = network.graph.weights.files.iter().chain(&compiler.tuning);
    read.extend(more.map(|path| (path.clone(), None)));
    let mut made: Vec<MadeOf> = vec![];
    for (path, hash) in read {
        let path = std::path::absolute(path)?;
        if path.is_file() && !made.iter().any(|known| known.path == path) {
            made.push(MadeOf::of(&path, hash)?);
        }
    }
    Ok(made)
}

/// Whether a file is called by a key.
fn is_key(stem: &str) -> bool {
    stem.len() == KEY_DIGITS && stem.bytes().all(|digit| digit.is_ascii_hexdigit())
}

fn read_list(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = vec![];
    opened::open(path)?.take(MAX_LIST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Requires that this user may write to the folder, and nobody else. On a file system that nobody writes to, it may be the
/// administrator's, too.
fn check_owner(folder: &Path) -> io::Result<()> {
    // A file of this process's has its user.
    let probe = match OutputFile::create(&folder.join("owner")) {
        Err(error) if takes_no_files(error.kind()) => None,
        probe => Some(probe?),
    };
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let status = fs::metadata(folder)?;
        let own = match &probe {
            Some(probe) => probe.file().metadata()?,
            None => fs::metadata("/proc/self")?,
        };
        if status.uid() != own.uid() && (probe.is_some() || status.uid() != 0) {
            return Err(io::Error::other("it belongs to somebody else, who could have programs run"));
        }
        if status.mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write to it and have programs run; `chmod go-w` ends that"));
        }
    }
    drop(probe);
    Ok(())
}
