//! Names what is in pictures, with a model that was compiled before.
//!
//! ```text
//! netc compile models/digits/digits.net -o digits.netc
//! cargo run --release --no-default-features --features images --example classify -- digits.netc models/digits/images/*.png
//! ```
//!
//! It is built without the compiler: opening a compiled model takes the runtime only.

#![allow(unsafe_code)] // Opening a compiled model, which is a program.

use std::error::Error;
use std::path::Path;

use netc::{Model, Picture, Preprocess};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: classify MODEL.netc IMAGE...")?;
    // SAFETY: whoever names a compiled model here wants its code to run, as with any program, and replaces
    // it by renaming only.
    let model = unsafe { Model::open(path)? };
    for path in arguments {
        println!("{path}: {}", classify(&model, Path::new(&path))?);
    }
    Ok(())
}

/// The likeliest class of one picture.
fn classify(model: &Model, path: &Path) -> Result<String, Box<dyn Error>> {
    let [_, channels, height, width] = model.inputs()[0].shape()[..] else {
        return Err("the model takes no images".into());
    };
    let shape = [channels, height, width];
    let preprocess: Option<Preprocess> = model.about().preprocess.first().cloned().flatten();
    let preprocess = preprocess.unwrap_or_else(|| Preprocess::usual(shape));
    let input = Picture::read(path)?.prepare(&preprocess, shape)?;

    let classes: usize = model.outputs()[0].shape()[1..].iter().product();
    let mut scores = vec![0.0; classes];
    model.run(&[&input], &mut [&mut scores])?;

    let best = (0..classes).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).ok_or("the model has no classes")?;
    Ok(model.about().labels.get(best).cloned().unwrap_or_else(|| format!("class {best}")))
}
