//! Weights in several files and the JSON index that names them, as large models are shipped:
//! `{"weight_map": {"conv1.weight": "model-00001-of-00002.safetensors", ...}}`.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::entries::{Buffer, Entry};
use super::file::{self, FileError};
use crate::mapped::Files;

#[derive(Deserialize)]
struct Index {
    /// The file of each tensor, beside the index.
    weight_map: BTreeMap<String, String>,
}

/// The tensors that the index names, wherever they are, and the shards that they are in.
pub(super) fn open(
    path: &Path,
    index: &Buffer,
    memory: Option<u64>,
    files: &mut Files,
) -> Result<(Vec<Entry>, Vec<PathBuf>), FileError> {
    let index: Index = serde_json::from_slice((**index).as_ref())
        .map_err(|e| FileError::new(path, format!("this is no index of sharded weights: {e}")))?;
    let mut shards: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, shard) in &index.weight_map {
        shards.entry(shard).or_default().push(name);
    }
    let (mut entries, mut paths) = (vec![], vec![]);
    for (shard, names) in shards {
        entries.extend(open_shard(path, shard, &names, memory, files)?);
        paths.push(path.with_file_name(shard));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((entries, paths))
}

fn open_shard(
    index: &Path,
    shard: &str,
    names: &[&str],
    memory: Option<u64>,
    files: &mut Files,
) -> Result<Vec<Entry>, FileError> {
    let is_plain = Path::new(shard).components().all(|c| matches!(c, Component::Normal(_)));
    if !is_plain || shard.is_empty() {
        return Err(FileError::new(index, format!("shard `{shard}` is not beside the index")));
    }
    let path = index.with_file_name(shard);
    let parsed = file::parse_within(&file::map(&path, files)?, memory);
    let mut entries = parsed.map_err(|e| FileError::new(&path, e))?.entries;
    entries.retain(|e| names.binary_search(&e.name.as_str()).is_ok());
    match names.iter().find(|name| !entries.iter().any(|e| e.name == **name)) {
        None => Ok(entries),
        Some(name) => Err(FileError::new(&path, format!("{name} is missing, which the index expects here"))),
    }
}

#[cfg(test)]
mod tests {
    use crate::ops::Init;
    use crate::tensor::Shape;
    use crate::weights::{self, Format, Weights};

    fn shard(path: &std::path::Path, names: &[&str]) {
        let mut weights = Weights::default();
        for name in names {
            weights.declare(name, Shape::from([2]), Init::He { fan_in: 3 }, true).unwrap();
        }
        weights::safetensors::write(path, &weights).unwrap();
    }

    #[test]
    fn an_index_opens_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        shard(&folder.path().join("1"), &["a", "c", "hidden"]);
        shard(&folder.path().join("2"), &["b"]);
        let index = folder.path().join("model.safetensors.index.json");
        let write = |text: &str| std::fs::write(&index, text).unwrap();
        write(r#"{"metadata": {"total_size": 24}, "weight_map": {"a": "1", "b": "2", "c": "1"}}"#);
        let file = weights::open(&index).unwrap();
        assert_eq!(file.format, Format::Sharded);
        assert_eq!(file.entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);

        let message = |text: &str| {
            write(text);
            weights::open(&index).map(drop).unwrap_err().message
        };
        let cases =
            [r#"{"weight_map": {"d": "2"}}"#, r#"{"weight_map": {"a": "../1"}}"#, r#"{"weight_map": {"a": "/1"}}"#];
        insta::assert_snapshot!(cases.map(message).join("\n"));
        write(r#"{"weight_map": {"a": "3"}}"#);
        assert_eq!(weights::open(&index).map(drop).unwrap_err().path, folder.path().join("3"));
    }
}
