//! How an image file becomes the input of a network. Data only: `image` carries it out.

use serde::{Deserialize, Serialize};

/// Steps in the order in which they apply: resize, center crop, scale, mean and std.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Preprocess {
    /// The size that a picture is brought to first.
    pub resize: Option<Resize>,
    /// Height and width of the central part that is kept.
    pub center_crop: Option<[usize; 2]>,
    /// Pixels are 0..=255; this factor applies first. 1/255 gives 0..=1.
    pub scale: Option<f32>,
    /// Subtracted, one a channel in the network's channel order, after `scale`.
    pub mean: Vec<f32>,
    /// Divides, one a channel, after `mean`.
    pub std: Vec<f32>,
    /// How the network's channels relate to a picture's colours.
    pub color: Color,
    /// 255 − pixel before anything else: for dark-on-light pictures of light-on-dark classes.
    pub invert: bool,
}

/// Bilinear with antialiasing, as PIL and torchvision resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resize {
    /// The shorter side gets this length; the other keeps the aspect.
    ShorterSide(usize),
    /// Height and width, aspect not kept.
    Exact([usize; 2]),
}

/// Order of the colour channels that the network expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Color {
    /// Red, green, blue. Also what is taken where nothing is said of colours.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luminance.
    Gray,
}

/// Pictures are resized and cropped to fewer pixels a side than this.
pub(crate) const MAX_SIDE: usize = 1 << 16;

/// A step that cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct WrongStep {
    /// Its word in a spec: `resize`, `mean`, ….
    pub step: &'static str,
    /// What is wrong, as a sentence without its full stop.
    pub message: String,
}

impl Preprocess {
    /// Whole pictures to images of `[channels, height, width]` with values from 0 to 1: what is done where nobody
    /// says it.
    pub fn usual([channels, height, width]: [usize; 3]) -> Self {
        Self {
            resize: Some(Resize::Exact([height, width])),
            scale: Some(1.0 / 255.0),
            color: if channels == 1 { Color::Gray } else { Color::Rgb },
            ..Self::default()
        }
    }

    /// Whether the steps make images of `[channels, height, width]`: everything that carrying them out
    /// relies on. Specs, metadata of ONNX models and of compiled ones, and callers are all held to it.
    ///
    /// # Errors
    /// Names the first step that is wrong.
    pub fn check(&self, [channels, height, width]: [usize; 3]) -> Result<(), WrongStep> {
        let wrong = |step, message: String| Err(WrongStep { step, message });
        let sides = match self.resize {
            None => vec![],
            Some(Resize::ShorterSide(side)) => vec![side],
            Some(Resize::Exact(size)) => size.to_vec(),
        };
        for (step, sides) in [("resize", sides), ("center_crop", self.center_crop.map_or(vec![], Vec::from))] {
            if let Some(side) = sides.into_iter().find(|side| !(1..MAX_SIDE).contains(side)) {
                return wrong(step, format!("`{step}` takes sizes from 1 to {}, not {side}", MAX_SIDE - 1));
            }
        }
        if let Some([h, w]) = self.center_crop
            && [h, w] != [height, width]
        {
            let message = format!("the crop of {h} × {w} does not fill the input of {height} × {width}");
            return wrong("center_crop", message);
        }
        if self.scale.is_some_and(|factor| !factor.is_finite()) {
            return wrong("scale", "`scale` is no finite number of 32 bits".into());
        }
        for (step, values) in [("mean", &self.mean), ("std", &self.std)] {
            if !values.is_empty() && values.len() != channels {
                let message = format!("`{step}` has {} numbers for an input of {channels} channels", values.len());
                return wrong(step, message);
            }
            if values.iter().any(|v| !v.is_finite()) {
                return wrong(step, format!("`{step}` holds what is no finite number of 32 bits"));
            }
        }
        if self.std.contains(&0.0) {
            return wrong("std", "`std` cannot be 0".into());
        }
        // Nothing said of colours is `Rgb`, whatever the channels are.
        match (self.color, channels) {
            (Color::Bgr, c) if c != 3 => wrong("color", format!("`bgr` images have 3 channels, the input has {c}")),
            (Color::Gray, c) if c != 1 => wrong("color", format!("`gray` images have 1 channels, the input has {c}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imagenet() -> Preprocess {
        Preprocess {
            resize: Some(Resize::ShorterSide(256)),
            center_crop: Some([224; 2]),
            scale: Some(1.0 / 255.0),
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
            ..Preprocess::default()
        }
    }

    #[test]
    fn what_cannot_be_carried_out_is_named_by_its_step() {
        let shape = [3, 224, 224];
        assert_eq!(imagenet().check(shape), Ok(()));
        let exact = |h, w| Preprocess { resize: Some(Resize::Exact([h, w])), ..imagenet() };
        let side = |s| Preprocess { resize: Some(Resize::ShorterSide(s)), ..imagenet() };
        let crop = |h, w| Preprocess { center_crop: Some([h, w]), ..imagenet() };
        let cases = [
            side(0),
            side(usize::MAX),
            exact(0, 3),
            exact(3, MAX_SIDE),
            crop(0, 0),
            crop(224, 1 << 40),
            crop(100, 100),
            Preprocess { scale: Some(f32::NAN), ..imagenet() },
            Preprocess { mean: vec![0.0; 2], ..imagenet() },
            Preprocess { mean: vec![f32::INFINITY; 3], ..imagenet() },
            Preprocess { std: vec![1.0, 0.0, 1.0], ..imagenet() },
            Preprocess { std: vec![f32::NAN; 3], ..imagenet() },
            Preprocess { color: Color::Gray, ..imagenet() },
        ];
        let messages: Vec<String> = cases.iter().map(|c| c.check(shape).unwrap_err().to_string()).collect();
        insta::assert_snapshot!(messages.join("\n"));
        let plain = Preprocess { color: Color::Bgr, ..Preprocess::default() };
        assert_eq!(plain.check([1, 4, 4]).unwrap_err().step, "color");
    }
}
