//! Pictures as Pillow and torchvision's steps make inputs of them (`tests/pillow/pictures.py`).

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use netc::internals::image::{ImageError, Picture};
use netc::internals::preprocess::{Color, Preprocess, Resize};
use netc::internals::weights;

/// `RGB s24 20`: see the script.
fn steps(text: &str) -> (Preprocess, usize) {
    let words: Vec<&str> = text.split(' ').collect();
    let number = |text: &str| text.parse::<usize>().unwrap();
    let resize = match words[1].strip_prefix('s') {
        Some(side) => Resize::ShorterSide(number(side)),
        None => {
            let (width, height) = words[1].split_once('x').unwrap();
            Resize::Exact([number(height), number(width)])
        }
    };
    let center_crop = words.get(2).map(|side| [number(side); 2]);
    let (color, channels) = if words[0] == "L" { (Color::Gray, 1) } else { (Color::Rgb, 3) };
    (Preprocess { resize: Some(resize), center_crop, color, ..Preprocess::default() }, channels)
}

/// The largest difference of a picture's levels from those of the script, for each of its steps. Resizing
/// is off by one level at most; decoders of JPEG differ by some more where colours are halved.
#[test]
fn pictures_become_what_pillow_makes_of_them() {
    let archive = weights::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow/pictures.npz")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut table: BTreeMap<&str, String> = BTreeMap::new();
    let mut read = BTreeMap::new();
    for entry in &archive.entries {
        let (name, what) = entry.name.split_once('/').unwrap();
        let (buffer, range) = &entry.bytes;
        let bytes = &(**buffer).as_ref()[range.clone()];
        if what == "file" {
            // What a file is, is seen from its contents.
            let path = folder.path().join("picture");
            std::fs::write(&path, bytes).unwrap();
            read.insert(name, Picture::read(&path).unwrap_or_else(|e| panic!("{name}: {e}")));
            continue;
        }
        let (preprocess, channels) = steps(what);
        let [height, width] = [entry.shape[0], entry.shape[1]];
        let values = read[name].prepare(&preprocess, [channels, height, width]).unwrap();
        let level = |i: usize| bytes[i % (height * width) * channels + i / (height * width)];
        let difference = |(i, &v): (usize, &f32)| (v - f32::from(level(i))).abs();
        let worst = values.iter().enumerate().map(difference).fold(0.0, f32::max);
        write!(table.entry(name).or_default(), "  {what}: {worst}").unwrap();
    }
    let lines: Vec<String> = table.iter().map(|(name, worst)| format!("{name}{worst}")).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

/// Part of a picture is an error and never a picture, whatever the format.
#[test]
fn pictures_that_were_cut_are_refused() {
    let archive = weights::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pillow/pictures.npz")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture");
    for entry in archive.entries.iter().filter(|e| e.name.ends_with("/file")) {
        let (buffer, range) = &entry.bytes;
        let file = &(**buffer).as_ref()[range.clone()];
        std::fs::write(&path, file).unwrap();
        let whole = Picture::read(&path).unwrap();
        for tenth in 1..10 {
            std::fs::write(&path, &file[..file.len() * tenth / 10]).unwrap();
            match Picture::read(&path) {
                Err(error) => assert!(matches!(error, ImageError::Cut { .. }), "{} {tenth}: {error}", entry.name),
                // Cut in a picture that comes after the first.
                Ok(read) => assert!(entry.name == "moving.gif/file" && read.levels == whole.levels, "{}", entry.name),
            }
        }
    }
}
