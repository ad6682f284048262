//! A program with a network inside: no file is opened when it runs.
//!
//!     cargo run --no-default-features --example embedded
//!
//! `netc compile` makes the file that becomes a part of the program. Built with `default-features = false`, netc is the
//! runtime alone. Here the file is a network of two classes with random weights, for any CPU of x86-64.

use netc::{Model, ModelOptions, classes};

/// The model, opened where it lies in the program.
fn model() -> Result<Model, netc::OpenError> {
    netc::include_model!("../tests/artifact/v2.netc", ModelOptions::default().threads(1))
}

/// The likeliest class of a picture, and its probability.
fn classify(model: &Model, picture: &[f32]) -> Result<classes::Class, netc::RunError> {
    let mut scores = vec![0.0; model.outputs()[0].elements()];
    model.run(&[picture], &mut [&mut scores])?;
    Ok(classes::ranked(&scores, &model.about().labels, 1).remove(0))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = model()?;
    let pixels = model.inputs()[0].elements();
    for (name, level) in [("black", 0.0), ("white", 1.0)] {
        let class = classify(&model, &vec![level; pixels])?;
        println!("{name}: {} ({:.0} %)", class.label.unwrap_or_default(), 100.0 * class.probability);
    }
    Ok(())
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_model_inside_classifies() {
        let model = model().unwrap();
        let picture = vec![0.5; model.inputs()[0].elements()];
        let class = classify(&model, &picture).unwrap();
        assert!(["a", "b"].contains(&class.label.unwrap().as_str()) && class.probability >= 0.5);
        assert!(classify(&model, &picture[1..]).is_err());
    }
}
