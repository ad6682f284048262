//! Changes of samples: what is drawn for one, and what is done with that.
//!
//! What an [`Augmentation`] draws are [`Action`]s, which hold no chance any more. They are carried out on planes of
//! numbers, and, where labels belong to pixels, on those, too.

use crate::image::{Crops, resize};
use crate::random::Draws;
use crate::recipe::Augmentation;

/// The principal components of ImageNet's colours, a row a channel, on a scale of 0 to 1 (Krizhevsky et al. 2012;
/// numbers as in fb.resnet.torch).
const COMPONENTS: [[f64; 3]; 3] = [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];
/// How far colours spread along each.
const SPREADS: [f64; 3] = [0.2175, 0.0188, 0.0045];
/// Shares of red, green and blue in grey, as torchvision has them.
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];
/// The largest level of a picture.
const WHITE: f32 = 255.0;

/// Channels of numbers, one plane after the other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planes {
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) values: Vec<f32>,
}

/// What is to be done with one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Action {
    Pad(usize),
    Crop {
        top: usize,
        left: usize,
        height: usize,
        width: usize,
    },
    Resize {
        height: usize,
        width: usize,
    },
    Mirror,
    /// By so many degrees, against the clock.
    Rotate(f64),
    Brightness(f32),
    Contrast(f32),
    Saturation(f32),
    /// What each channel becomes lighter by.
    Light([f32; 3]),
    /// Of a square of this side, what is within the picture becomes zeros. Its first row and column may be outside.
    Erase {
        top: isize,
        left: isize,
        side: usize,
    },
}

/// How pixels are made that were none before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pixels {
    /// Of their neighbours; zeros outside.
    Blended,
    /// The nearest one; this label outside.
    Labels(f32),
}

/// Draws what a change does to a sample of this height and width.
///
/// # Errors
/// Where it cannot be done.
pub(super) fn draw(
    change: &Augmentation,
    [height, width]: [usize; 2],
    draws: &mut Draws,
) -> Result<Vec<Action>, String> {
    let factor = |range: f64, draws: &mut Draws| draws.between((1.0 - range).max(0.0), 1.0 + range) as f32;
    Ok(vec![match *change {
        Augmentation::Pad(border) => Action::Pad(border),
        Augmentation::RandomCrop([high, wide]) => {
            let (Some(down), Some(right)) = (height.checked_sub(high), width.checked_sub(wide)) else {
                return Err(format!("a picture of {height}×{width} has no part of {high}×{wide}"));
            };
            let top = draws.below(down as u32 + 1) as usize;
            Action::Crop { top, left: draws.below(right as u32 + 1) as usize, height: high, width: wide }
        }
        Augmentation::RandomResizedCrop { size: [high, wide], scale, ratio } => {
            let part = random_part([height, width], scale, ratio, draws);
            return Ok(vec![part, Action::Resize { height: high, width: wide }]);
        }
        Augmentation::Flip(probability) if draws.uniform() < probability => Action::Mirror,
        Augmentation::Rotate(degrees) => Action::Rotate(draws.between(-degrees, degrees)),
        Augmentation::Brightness(range) => Action::Brightness(factor(range, draws)),
        Augmentation::Contrast(range) => Action::Contrast(factor(range, draws)),
        Augmentation::Saturation(range) => Action::Saturation(factor(range, draws)),
        Augmentation::Lighting(deviation) => {
            let factors = SPREADS.map(|spread| spread * deviation * draws.normal());
            let light = |row: [f64; 3]| row.iter().zip(factors).map(|(part, factor)| part * factor).sum::<f64>();
            Action::Light(COMPONENTS.map(|row| light(row) as f32 * WHITE))
        }
        Augmentation::Cutout(side) => {
            let [row, column] = [height, width].map(|n| draws.below(n as u32) as isize - (side / 2) as isize);
            Action::Erase { top: row, left: column, side }
        }
        // Batches are mixed, not samples.
        Augmentation::Flip(_) | Augmentation::Mixup(_) => return Ok(vec![]),
    }])
}

/// As torchvision draws it: ten tries, then the largest central part of a ratio that is allowed.
fn random_part([height, width]: [usize; 2], scale: [f64; 2], ratio: [f64; 2], draws: &mut Draws) -> Action {
    let area = height as f64 * width as f64;
    for _ in 0..10 {
        let target = area * draws.between(scale[0], scale[1]);
        let ratio = draws.between(ratio[0].ln(), ratio[1].ln()).exp();
        let (wide, high) = ((target * ratio).sqrt().round() as usize, (target / ratio).sqrt().round() as usize);
        if (1..=width).contains(&wide) && (1..=height).contains(&high) {
            let top = draws.below((height - high) as u32 + 1) as usize;
            return Action::Crop {
                top,
                left: draws.below((width - wide) as u32 + 1) as usize,
                height: high,
                width: wide,
            };
        }
    }
    let whole = width as f64 / height as f64;
    let (wide, high) = match () {
        () if whole < ratio[0] => (width, (width as f64 / ratio[0]).round() as usize),
        () if whole > ratio[1] => ((height as f64 * ratio[1]).round() as usize, height),
        () => (width, height),
    };
    let (wide, high) = (wide.clamp(1, width), high.clamp(1, height));
    Action::Crop { top: (height - high) / 2, left: (width - wide) / 2, height: high, width: wide }
}

impl Planes {
    /// Carries an action out. Labels go where pixels go, and keep their values.
    pub(super) fn apply(self, action: &Action, pixels: Pixels) -> Self {
        let outside = if let Pixels::Labels(label) = pixels { label } else { 0.0 };
        let of_labels = matches!(pixels, Pixels::Labels(_));
        match *action {
            Action::Pad(border) => self.padded(border, outside),
            Action::Crop { top, left, height, width } => self.cropped(top, left, height, width),
            Action::Resize { height, width } if of_labels => self.nearest(height, width),
            Action::Resize { height, width } => self.resized(height, width),
            Action::Mirror => self.mirrored(),
            Action::Rotate(degrees) => self.rotated(degrees, pixels),
            // A pixel keeps its label whatever its colour is.
            _ if of_labels => self,
            Action::Brightness(factor) => self.blended(factor, |_, _| 0.0),
            Action::Contrast(factor) => {
                let mean = self.mean_grey();
                self.blended(factor, |_, _| mean)
            }
            // Grey stays as it is.
            Action::Saturation(_) if self.channels != 3 => self,
            Action::Saturation(factor) => self.blended(factor, |planes, pixel| planes.grey(pixel)),
            Action::Light(light) => self.lit(light),
            Action::Erase { top, left, side } => self.erased(top, left, side),
        }
    }

    /// The corners and the centre of the planes with a border of zeros, each of the planes' own size, and maybe the
    /// mirror images of these.
    pub(super) fn crops(self, crops: &Crops) -> Vec<f32> {
        let (height, width, room) = (self.height, self.width, 2 * crops.border);
        let framed = self.padded(crops.border, 0.0);
        let places = [(0, 0), (0, room), (room, 0), (room, room), (crops.border, crops.border)];
        let mut values = vec![];
        for planes in [Some(framed.clone()), crops.mirrored.then(|| framed.mirrored())].into_iter().flatten() {
            for (top, left) in places {
                values.extend(planes.clone().cropped(top, left, height, width).values);
            }
        }
        values
    }

    fn plane(&self) -> usize {
        self.height * self.width
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }

    fn padded(self, border: usize, outside: f32) -> Self {
        let (height, width) = (self.height + 2 * border, self.width + 2 * border);
        let mut values = vec![outside; self.channels * height * width];
        for (i, row) in self.rows().enumerate() {
            let (channel, y) = (i / self.height, i % self.height);
            values[(channel * height + border + y) * width + border..][..self.width].copy_from_slice(row);
        }
        Self { height, width, values, ..self }
    }

    fn cropped(self, top: usize, left: usize, height: usize, width: usize) -> Self {
        let mut values = Vec::with_capacity(self.channels * height * width);
        for channel in 0..self.channels {
            for y in top..top + height {
                values.extend_from_slice(&self.values[(channel * self.height + y) * self.width + left..][..width]);
            }
        }
        Self { height, width, values, ..self }
    }

    fn mirrored(mut self) -> Self {
        self.values.chunks_exact_mut(self.width).for_each(<[f32]>::reverse);
        self
    }

    /// Bilinear with antialiasing, as `resize` has it for levels, but without rounding.
    fn resized(self, height: usize, width: usize) -> Self {
        let as_f32 = |(first, shares): (usize, Vec<f64>)| (first, shares.iter().map(|&s| s as f32).collect());
        let columns: Vec<(usize, Vec<f32>)> = resize::shares(self.width, width).map(as_f32).collect();
        let rows: Vec<(usize, Vec<f32>)> = resize::shares(self.height, height).map(as_f32).collect();
        let mut narrow = Vec::with_capacity(self.channels * self.height * width);
        for row in self.rows() {
            let sum =
                |(first, shares): &(usize, Vec<f32>)| row[*first..].iter().zip(shares).map(|(v, s)| v * s).sum::<f32>();
            narrow.extend(columns.iter().map(sum));
        }
        let mut values = vec![0.0; self.channels * height * width];
        for (channel, plane) in values.chunks_exact_mut(height * width).enumerate() {
            for (row, (first, shares)) in plane.chunks_exact_mut(width).zip(&rows) {
                for (y, &share) in shares.iter().enumerate() {
                    let from = &narrow[(channel * self.height + first + y) * width..][..width];
                    row.iter_mut().zip(from).for_each(|(to, v)| *to += share * v);
                }
            }
        }
        Self { height, width, values, ..self }
    }

    fn nearest(self, height: usize, width: usize) -> Self {
        let source = |i: usize, from: usize, to: usize| (2 * i + 1) * from / (2 * to);
        let mut values = Vec::with_capacity(self.channels * height * width);
        for channel in 0..self.channels {
            for y in 0..height {
                let row = &self.values[(channel * self.height + source(y, self.height, height)) * self.width..];
                values.extend((0..width).map(|x| row[source(x, self.width, width)]));
            }
        }
        Self { height, width, values, ..self }
    }

    /// About the centre.
    fn rotated(self, degrees: f64, pixels: Pixels) -> Self {
        let (sin, cos) = degrees.to_radians().sin_cos();
        let (middle_x, middle_y) = ((self.width - 1) as f64 / 2.0, (self.height - 1) as f64 / 2.0);
        let mut values = Vec::with_capacity(self.values.len());
        for channel in 0..self.channels {
            let plane = &self.values[channel * self.plane()..][..self.plane()];
            for y in 0..self.height {
                for x in 0..self.width {
                    let (dx, dy) = (x as f64 - middle_x, y as f64 - middle_y);
                    // Where this pixel comes from. Rows count downwards.
                    let from = [middle_y + sin * dx + cos * dy, middle_x + cos * dx - sin * dy];
                    values.push(self.value_at(plane, from, pixels));
                }
            }
        }
        Self { values, ..self }
    }

    fn value_at(&self, plane: &[f32], [y, x]: [f64; 2], pixels: Pixels) -> f32 {
        let at = |y: f64, x: f64, outside: f32| {
            let is_inside = (0.0..self.height as f64).contains(&y) && (0.0..self.width as f64).contains(&x);
            if is_inside { plane[y as usize * self.width + x as usize] } else { outside }
        };
        if let Pixels::Labels(outside) = pixels {
            return at((y + 0.5).floor(), (x + 0.5).floor(), outside);
        }
        let (top, left) = (y.floor(), x.floor());
        let (down, right) = ((y - top) as f32, (x - left) as f32);
        let row = |y: f64| at(y, left, 0.0) * (1.0 - right) + at(y, left + 1.0, 0.0) * right;
        row(top) * (1.0 - down) + row(top + 1.0) * down
    }

    fn grey(&self, pixel: usize) -> f32 {
        match self.channels {
            3 => GREY.iter().enumerate().map(|(c, share)| share * self.values[c * self.plane() + pixel]).sum(),
            _ => self.values[pixel],
        }
    }

    fn mean_grey(&self) -> f32 {
        let sum: f64 = (0..self.plane()).map(|pixel| f64::from(self.grey(pixel))).sum();
        (sum / self.plane() as f64) as f32
    }

    /// `factor` of each value and the rest of another, within black and white.
    fn blended(self, factor: f32, other: impl Fn(&Self, usize) -> f32) -> Self {
        let plane = self.plane();
        let others: Vec<f32> = (0..plane).map(|pixel| (1.0 - factor) * other(&self, pixel)).collect();
        let blend = |(i, v): (usize, &f32)| (factor * v + others[i % plane]).clamp(0.0, WHITE);
        Self { values: self.values.iter().enumerate().map(blend).collect(), ..self }
    }

    fn lit(mut self, light: [f32; 3]) -> Self {
        let plane = self.plane();
        for (values, light) in self.values.chunks_exact_mut(plane).zip(light) {
            values.iter_mut().for_each(|v| *v += light);
        }
        self
    }

    fn erased(mut self, top: isize, left: isize, side: usize) -> Self {
        let within = |first: isize, size: usize| {
            let end = first.saturating_add_unsigned(side).clamp(0, size as isize) as usize;
            first.clamp(0, size as isize) as usize..end
        };
        let (rows, columns) = (within(top, self.height), within(left, self.width));
        for plane in self.values.chunks_exact_mut(self.height * self.width) {
            rows.clone().for_each(|y| plane[y * self.width..][columns.clone()].fill(0.0));
        }
        self
    }
}
