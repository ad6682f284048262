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

/// Pictures are resized and cropped to no more pixels a side than this.
pub(crate) const MAX_SIDE: usize = 1 << 16;

impl Preprocess {
    /// Whether the steps end in an image of `[channels, height, width]` and can be carried out: what
    /// the language asks of a `preprocess`, for steps that come from elsewhere.
    ///
    /// # Errors
    /// Says which step cannot be.
    pub(crate) fn check(&self, [channels, height, width]: [usize; 3]) -> Result<(), String> {
        let sides: &[usize] = match &self.resize {
            Some(Resize::ShorterSide(side)) => &[*side],
            Some(Resize::Exact(sides)) => sides,
            None => &[],
        };
        if let Some(side) = sides.iter().find(|side| !(1..MAX_SIDE).contains(side)) {
            return Err(format!("pictures are resized to {side} pixels"));
        }
        if let Some([h, w]) = self.center_crop.filter(|crop| *crop != [height, width] || height.max(width) >= MAX_SIDE)
        {
            return Err(format!("the crop of {h} × {w} does not fill the input of {height} × {width}"));
        }
        for (name, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            if !numbers.is_empty() && numbers.len() != channels {
                return Err(format!("`{name}` has {} numbers for {channels} channels", numbers.len()));
            }
        }
        if self.std.contains(&0.0) {
            return Err("`std` is 0".into());
        }
        let wanted = if self.color == Color::Gray { 1 } else { 3 };
        // Without a step that says it, images of other numbers of channels have no colours.
        match channels == wanted || (self.color == Color::Rgb && channels != 1) {
            true => Ok(()),
            false => Err(format!("{:?} images have {wanted} channels, the input has {channels}", self.color)),
        }
    }
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
