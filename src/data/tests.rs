//! Data sets as others write them, mistakes in them, and batches that depend on seed, epoch and step alone.

mod changes;
mod files;
mod loading;

use std::sync::Arc;

use super::*;
use crate::image::Picture;

/// Pictures that are told by their number: level `index` in the corner, then a ramp.
struct Numbered {
    count: usize,
    size: [usize; 3],
    fields: Vec<Field>,
    classes: Vec<String>,
    /// Which cannot be read, and which make the reader panic.
    broken: Vec<usize>,
    panicking: Vec<usize>,
}

impl Numbered {
    fn new(count: usize, size: [usize; 3], classes: usize) -> Self {
        let fields = vec![Field { name: "image".into(), kind: FieldKind::Pictures(Some(size)) }];
        Self { count, size, fields, classes: numbered(classes), broken: vec![], panicking: vec![] }
    }

    fn set(self) -> Dataset {
        Dataset::of("numbered", Arc::new(self)).unwrap()
    }
}

impl Samples for Numbered {
    fn count(&self) -> usize {
        self.count
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, index: usize, _: usize) -> Result<Value, DataError> {
        assert!(!self.panicking.contains(&index), "no decoder reads sample {index}");
        if self.broken.contains(&index) {
            return Err(DataError::Sample { sample: self.name(index), message: "it is broken".into() });
        }
        let [channels, height, width] = self.size;
        let levels = (0..channels * height * width).map(|i| (index + 7 * i) as u8).collect();
        Ok(Value::Picture(Picture { width, height, channels, levels }))
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label_shape(&self) -> Option<&[usize]> {
        Some(&[])
    }

    fn labels(&self, index: usize) -> Vec<i64> {
        vec![(index % self.classes.len()) as i64]
    }
}

fn input<'a>(shape: &'a [usize], augment: &'a [Augmentation]) -> Input<'a> {
    Input { name: "image", shape, preprocess: None, augment }
}
