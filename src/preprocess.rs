//! How an image file becomes the input of a network. Data only: `netc::image` carries it out.

use serde::{Deserialize, Serialize};

/// Steps in the order in which they apply: resize, center crop, scale, mean and std.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Preprocess {
    pub resize: Option<Resize>,
    /// Height and width of the central part that is kept.
    pub center_crop: Option<[usize; 2]>,
    /// Pixels are 0..=255; this factor applies first. 1/255 gives 0..=1.
    pub scale: Option<f32>,
    /// Subtracted, one a channel in the network's channel order, after `scale`.
    pub mean: Vec<f32>,
    /// Divides, one a channel, after `mean`.
    pub std: Vec<f32>,
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
    #[default]
    Rgb,
    Bgr,
    Gray,
}
