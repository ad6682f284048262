//! What is done to a sample until it is an input of a network.
//!
//! ```text
//! picture ─resize─▶ ─centre crop─▶ ─changes, in training─▶ ─scale, mean, deviation─▶ numbers
//! numbers ─changes that move them, in training─▶ numbers
//! ```
//!
//! Where a picture is cropped at random, the crop at the centre is left out, since the other comes in its place; where
//! a random part is resized, it is a part of the whole picture, and the resizing before it is left out, too. Where
//! nothing is said of resizing or cropping, pictures get the input's size first, as they do in an evaluation.

use super::augment::{Pixels, Planes, draw};
use super::dataset::{Dataset, Field, FieldKind, Value};
use super::error::DataError;
use super::loader::Mode;
use crate::image::{self, Crops, MAX_PIXELS, Picture};
use crate::preprocess::{Color, Preprocess, Resize};
use crate::random::Draws;
use crate::recipe::Augmentation;

/// Borders and parts are smaller than this.
const MAX_SIDE: usize = 1 << 15;

/// An input of a network that is fed from data.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// As the network calls it.
    pub name: &'a str,
    /// The shape of one sample, `[channels, height, width]` where it is a picture.
    pub shape: &'a [usize],
    /// How pictures become it; [`Preprocess::usual`] where nothing is said.
    pub preprocess: Option<&'a Preprocess>,
    /// What is done to samples in training.
    pub augment: &'a [Augmentation],
}

/// How an input is made of a field of a data set: [`Dataset::feeds`] makes it.
#[derive(Clone, Debug)]
pub struct Feed {
    field: usize,
    shape: Vec<usize>,
    preprocess: Preprocess,
    augment: Vec<Augmentation>,
    /// In an evaluation: several inputs are cut of each sample.
    crops: Option<Crops>,
}

/// Labels of the pixels of a sample: height and width, the labels, and the label of what comes from outside.
pub(super) type LabelMap<'a> = ([usize; 2], &'a mut Vec<f32>, f32);

impl Dataset {
    /// How the inputs of a network are made of the fields. An input takes the field of its name; where one input and
    /// one field are left, they belong together.
    ///
    /// # Errors
    /// Where an input finds no field, or a field does not become what the input takes.
    pub fn feeds(&self, inputs: &[Input<'_>]) -> Result<Vec<Feed>, DataError> {
        let fields = self.fields();
        let by_name = |input: &Input<'_>| fields.iter().position(|field| field.name == input.name);
        let left: Vec<usize> =
            (0..fields.len()).filter(|&i| inputs.iter().all(|input| input.name != fields[i].name)).collect();
        let is_alone = inputs.iter().filter(|input| by_name(input).is_none()).count() == 1;
        let find = |input: &Input<'_>| by_name(input).or((is_alone && left.len() == 1).then(|| left[0]));
        let feed = |input: &Input<'_>| {
            let Some(field) = find(input) else {
                let names: Vec<String> = fields.iter().map(|field| format!("`{}`", field.name)).collect();
                let (set, names) = (self.path().display(), names.join(", "));
                return Err(DataError::Fit(format!("{set} has nothing for input `{}`; it has {names}", input.name)));
            };
            Feed::new(input, field, &fields[field])
        };
        inputs.iter().map(feed).collect()
    }

    /// The shape of a sample's labels in a batch: in training, labels of pixels go where the pixels go.
    pub(crate) fn label_shape_in(&self, mode: Mode, feeds: &[Feed]) -> Option<Vec<usize>> {
        let resized = feeds.iter().find(|feed| feed.changes_geometry(mode)).map(Feed::plane);
        match (self.label_shape()?, resized) {
            ([_, _], Some(plane)) => Some(plane.to_vec()),
            (shape, _) => Some(shape.to_vec()),
        }
    }
}

impl Feed {
    fn new(input: &Input<'_>, field: usize, of: &Field) -> Result<Self, DataError> {
        let Input { name, shape, augment, .. } = *input;
        let wrong = |message: String| DataError::Fit(format!("input `{name}`: {message}"));
        let plain = || input.preprocess.cloned().unwrap_or_default();
        let preprocess = match (&of.kind, shape) {
            (FieldKind::Pictures(_), &[channels, height, width]) => {
                let of_input = [channels, height, width];
                let preprocess = input.preprocess.cloned().unwrap_or_else(|| Preprocess::usual(of_input));
                preprocess.check(of_input).map_err(|e| wrong(e.to_string()))?;
                if channels != 1 && channels != 3 {
                    return Err(wrong(format!("pictures have 1 or 3 channels, it has {channels}")));
                }
                preprocess
            }
            (FieldKind::Pictures(_), shape) => {
                return Err(wrong(format!("`{}` holds pictures, and a sample of it is {shape:?}", of.name)));
            }
            (FieldKind::Numbers(found), shape) if without_ones(found) == without_ones(shape) => plain(),
            (FieldKind::Numbers(found), shape) => {
                let is_turned = matches!((found.as_slice(), shape), (&[a, b, c], &[d, e, f]) if [c, a, b] == [d, e, f]);
                let hint = if is_turned { ": its channels come last; transpose it" } else { "" };
                return Err(wrong(format!("a sample of it is {shape:?}, one of `{}` is {found:?}{hint}", of.name)));
            }
        };
        let feed = Self { field, shape: shape.to_vec(), preprocess, augment: augment.to_vec(), crops: None };
        feed.check(&of.kind).map_err(wrong)?;
        Ok(feed)
    }

    /// In place of one input, several are cut of each sample of an evaluation, one after the other.
    ///
    /// # Errors
    /// Where samples are no pictures, or have no more pixels than a crop.
    pub(crate) fn cropped(self, crops: Crops, dataset: &Dataset) -> Result<Self, DataError> {
        let &[channels, height, width] = &self.shape[..] else {
            return Err(DataError::Fit(format!("crops are of pictures, and a sample is {:?}", self.shape)));
        };
        match dataset.fields()[self.field].kind {
            FieldKind::Pictures(_) => crops.check(&self.preprocess, [channels, height, width])?,
            FieldKind::Numbers(_) if crops.resize.is_some() => {
                let message = "the data are numbers, which are not resized; they may get a border of zeros";
                return Err(DataError::Fit(message.into()));
            }
            FieldKind::Numbers(_) => crops.check_border([height, width])?,
        }
        Ok(Self { crops: Some(crops), ..self })
    }

    /// Whether the changes can be carried out and end in the input's size.
    fn check(&self, kind: &FieldKind) -> Result<(), String> {
        self.augment.iter().try_for_each(check_settings)?;
        let of_samples = self.augment.iter().filter(|change| !matches!(change, Augmentation::Mixup(_)));
        let of_samples: Vec<&Augmentation> = of_samples.collect();
        let &[channels, height, width] = &self.shape[..] else {
            return match of_samples.first() {
                Some(change) => Err(format!("{} changes pictures, and a sample is {:?}", word(change), self.shape)),
                None => Ok(()),
            };
        };
        let mut size = match kind {
            FieldKind::Numbers(_) => Some([height, width]),
            FieldKind::Pictures(of) => self.size_before([height, width], of.map(|[_, h, w]| [h, w])),
        };
        for change in of_samples {
            if matches!(kind, FieldKind::Numbers(_))
                && !moves_pixels(change)
                && !matches!(change, Augmentation::Cutout(_))
            {
                return Err(format!("{} changes the colours of pictures, and the data are numbers", word(change)));
            }
            if matches!(change, Augmentation::Lighting(_)) && channels != 3 {
                return Err(format!("lighting changes red, green and blue, and there are {channels} channels"));
            }
            size = size_after(change, size)?;
        }
        match size {
            Some(size) if size != [height, width] => {
                let [h, w] = size;
                Err(format!("its changes end in pictures of {h}×{w}, it takes {height}×{width}"))
            }
            _ => Ok(()),
        }
    }

    /// The size that pictures have before the changes, where all have the same.
    fn size_before(&self, input: [usize; 2], pictures: Option<[usize; 2]>) -> Option<[usize; 2]> {
        let Preprocess { resize, center_crop, .. } = self.preprocess;
        match self.first_part() {
            Some(Augmentation::RandomResizedCrop { .. }) => pictures,
            Some(_) => match (resize, center_crop) {
                (Some(Resize::Exact(size)), _) => Some(size),
                (None, Some(_)) => pictures,
                (None, None) => Some(input),
                (Some(Resize::ShorterSide(side)), _) => pictures.map(|[height, width]| {
                    let longer = |long: usize, short: usize| (side.saturating_mul(long) / short).max(1);
                    if width <= height { [longer(height, width), side] } else { [side, longer(width, height)] }
                }),
            },
            // What has no size of its own gets the input's, or is refused when it is read.
            None => match (center_crop, resize) {
                (Some(size), _) | (None, Some(Resize::Exact(size))) => Some(size),
                (None, None) => Some(input),
                (None, Some(Resize::ShorterSide(_))) => None,
            },
        }
    }

    /// The first change that takes a part of the picture.
    fn first_part(&self) -> Option<&Augmentation> {
        let is_part = |change: &&Augmentation| {
            matches!(change, Augmentation::RandomCrop(_) | Augmentation::RandomResizedCrop { .. })
        };
        self.augment.iter().find(is_part)
    }

    /// Which of the data set's fields it reads.
    pub fn field(&self) -> usize {
        self.field
    }

    /// The shape of one sample.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Numbers of a sample; of all its crops, where several are cut.
    pub fn elements(&self) -> usize {
        self.shape.iter().product::<usize>() * self.crops.map_or(1, |crops| crops.count())
    }

    /// Whether pixels move, so that labels of pixels must follow them.
    pub(super) fn changes_geometry(&self, mode: Mode) -> bool {
        mode == Mode::Training && self.shape.len() == 3 && self.augment.iter().any(moves_pixels)
    }

    /// Height and width of a sample that is a picture.
    pub(super) fn plane(&self) -> [usize; 2] {
        [self.shape[1], self.shape[2]]
    }

    /// The α by which batches are mixed.
    pub(super) fn mixup(&self, mode: Mode) -> Option<f64> {
        let alpha = |change: &Augmentation| if let Augmentation::Mixup(alpha) = change { Some(*alpha) } else { None };
        self.augment.iter().find_map(alpha).filter(|_| mode == Mode::Training)
    }

    /// The input's numbers. `draws` gives the random numbers of each change, in training; `map` are labels to be moved
    /// with the pixels.
    pub(super) fn value(
        &self,
        value: Value,
        draws: Option<&dyn Fn(usize) -> Draws>,
        map: Option<LabelMap<'_>>,
        name: &dyn Fn() -> String,
    ) -> Result<Vec<f32>, DataError> {
        let wrong = |message| DataError::Sample { sample: name(), message };
        match (value, draws) {
            (Value::Picture(picture), _) if !is_whole(&picture) => {
                let Picture { width, height, channels, levels } = picture;
                let count = levels.len();
                Err(wrong(format!("{count} levels are no picture of {height}×{width} with {channels} channels")))
            }
            (Value::Picture(picture), Some(draws)) if !self.augment.is_empty() => {
                let [channels, height, width] = self.shape[..] else { unreachable!("it takes pictures") };
                let before = self.before_changes(&picture, [channels, height, width])?;
                let after = self.changed(planes_of(&before, self.preprocess.invert), draws, map).map_err(wrong)?;
                Ok(self.numbers(&after))
            }
            (Value::Picture(picture), draws) => {
                let [channels, height, width] = self.shape[..] else { unreachable!("it takes pictures") };
                Ok(match self.crops.filter(|_| draws.is_none()) {
                    Some(crops) => picture.crops(&self.preprocess, [channels, height, width], &crops)?,
                    None => picture.prepare(&self.preprocess, [channels, height, width])?,
                })
            }
            (Value::Numbers(values), _) if values.len() != self.shape.iter().product::<usize>() => {
                let due = self.shape.iter().product::<usize>();
                Err(wrong(format!("it has {} numbers, {due} are due", values.len())))
            }
            (Value::Numbers(values), Some(draws)) if self.shape.len() == 3 => {
                let [channels, height, width] = self.shape[..] else { unreachable!("there are three sizes") };
                let planes = Planes { channels, height, width, values };
                Ok(self.changed(planes, draws, map).map_err(wrong)?.values)
            }
            (Value::Numbers(values), _) => Ok(match (self.crops, &self.shape[..]) {
                (Some(crops), &[channels, height, width]) => Planes { channels, height, width, values }.crops(&crops),
                _ => values,
            }),
        }
    }

    fn before_changes(&self, picture: &Picture, shape: [usize; 3]) -> Result<Picture, DataError> {
        Ok(match self.first_part() {
            None => image::sized(picture, &self.preprocess, shape)?,
            Some(Augmentation::RandomResizedCrop { .. }) => {
                // What is cropped later is not resized now.
                let whole = Preprocess { resize: None, center_crop: Some([1; 2]), ..self.preprocess.clone() };
                image::resized(picture, &whole, shape)?
            }
            Some(_) => image::resized(picture, &self.preprocess, shape)?,
        })
    }

    fn changed(
        &self,
        mut planes: Planes,
        draws: &dyn Fn(usize) -> Draws,
        map: Option<LabelMap<'_>>,
    ) -> Result<Planes, String> {
        let mut labels = None;
        if let Some(([height, width], values, outside)) = map {
            if [height, width] != [planes.height, planes.width] {
                let (h, w) = (planes.height, planes.width);
                return Err(format!(
                    "its labels are {height}×{width}, the picture that is changed with them is {h}×{w}"
                ));
            }
            let of = Planes { channels: 1, height, width, values: std::mem::take(values) };
            labels = Some((of, values, outside));
        }
        for (number, change) in self.augment.iter().enumerate() {
            for action in draw(change, [planes.height, planes.width], &mut draws(number))? {
                planes = planes.apply(&action, Pixels::Blended);
                labels =
                    labels.map(|(of, values, outside)| (of.apply(&action, Pixels::Labels(outside)), values, outside));
            }
            if planes.height * planes.width > MAX_PIXELS {
                return Err(format!("it would become a picture of {}×{}", planes.height, planes.width));
            }
        }
        if let Some((of, values, _)) = labels {
            *values = of.values;
        }
        let [height, width] = self.plane();
        match [planes.height, planes.width] == [height, width] {
            true => Ok(planes),
            false => Err(format!(
                "its changes end in {}×{} pixels, the input takes {height}×{width}",
                planes.height, planes.width
            )),
        }
    }

    /// As `image` has it for pictures of levels; the levels are turned around already.
    fn numbers(&self, planes: &Planes) -> Vec<f32> {
        let Preprocess { scale, mean, std, color, .. } = &self.preprocess;
        let (channels, plane) = (planes.channels, planes.height * planes.width);
        let scale = scale.unwrap_or(1.0);
        let mut numbers = Vec::with_capacity(planes.values.len());
        for channel in 0..channels {
            let from = if *color == Color::Bgr { channels - 1 - channel } else { channel };
            let (mean, std) = (mean.get(channel).unwrap_or(&0.0), std.get(channel).unwrap_or(&1.0));
            numbers.extend(planes.values[from * plane..][..plane].iter().map(|v| (v * scale - mean) / std));
        }
        numbers
    }
}

fn planes_of(picture: &Picture, invert: bool) -> Planes {
    let Picture { width, height, channels, ref levels } = *picture;
    let level = |&l: &u8| f32::from(if invert { 255 - l } else { l });
    let plane = |channel| levels.iter().skip(channel).step_by(channels).map(level);
    Planes { channels, height, width, values: (0..channels).flat_map(plane).collect() }
}

/// What readers of files make is; an own source may give anything.
fn is_whole(picture: &Picture) -> bool {
    let Picture { width, height, channels, ref levels } = *picture;
    let due = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels));
    matches!(channels, 1 | 3) && due == Some(levels.len()) && !levels.is_empty()
}

fn without_ones(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&size| size != 1).collect()
}

/// What a text calls it.
fn word(change: &Augmentation) -> &'static str {
    match change {
        Augmentation::Pad(_) => "pad",
        Augmentation::RandomCrop(_) => "random_crop",
        Augmentation::RandomResizedCrop { .. } => "random_resized_crop",
        Augmentation::Flip(_) => "flip",
        Augmentation::Rotate(_) => "rotation",
        Augmentation::Brightness(_) => "brightness",
        Augmentation::Contrast(_) => "contrast",
        Augmentation::Saturation(_) => "saturation",
        Augmentation::Lighting(_) => "lighting",
        Augmentation::Cutout(_) => "cutout",
        Augmentation::Mixup(_) => "mixup",
    }
}

/// A change as a `train` block says it.
fn written(change: &Augmentation) -> String {
    let numbers = match *change {
        Augmentation::Pad(by) | Augmentation::Cutout(by) => by.to_string(),
        Augmentation::RandomCrop([height, width]) => format!("({height}, {width})"),
        Augmentation::RandomResizedCrop { size: [height, width], scale: [low, high], ratio: [least, most] } => {
            format!("({height}, {width}), scale = ({low}, {high}), ratio = ({least}, {most})")
        }
        Augmentation::Flip(by)
        | Augmentation::Rotate(by)
        | Augmentation::Brightness(by)
        | Augmentation::Contrast(by)
        | Augmentation::Saturation(by)
        | Augmentation::Lighting(by)
        | Augmentation::Mixup(by) => by.to_string(),
    };
    format!("{}({numbers})", word(change))
}

fn moves_pixels(change: &Augmentation) -> bool {
    match change {
        Augmentation::Pad(_)
        | Augmentation::RandomCrop(_)
        | Augmentation::RandomResizedCrop { .. }
        | Augmentation::Flip(_)
        | Augmentation::Rotate(_) => true,
        Augmentation::Brightness(_)
        | Augmentation::Contrast(_)
        | Augmentation::Saturation(_)
        | Augmentation::Lighting(_)
        | Augmentation::Cutout(_)
        | Augmentation::Mixup(_) => false,
    }
}

/// Whether the numbers make sense.
fn check_settings(change: &Augmentation) -> Result<(), String> {
    let sides = |sizes: &[usize]| sizes.iter().all(|size| (1..MAX_SIDE).contains(size));
    let range = |[low, high]: [f64; 2], most: f64| 0.0 < low && low <= high && high <= most;
    let is_right = match *change {
        Augmentation::Pad(border) => border < MAX_SIDE,
        Augmentation::RandomCrop(size) => sides(&size),
        Augmentation::RandomResizedCrop { size, scale, ratio } => {
            sides(&size) && range(scale, 1.0) && range(ratio, 1e3)
        }
        Augmentation::Flip(probability) => (0.0..=1.0).contains(&probability),
        Augmentation::Rotate(degrees) => (0.0..=180.0).contains(&degrees),
        Augmentation::Brightness(f) | Augmentation::Contrast(f) | Augmentation::Saturation(f) => {
            (0.0..=1e3).contains(&f)
        }
        Augmentation::Lighting(deviation) => (0.0..=1e3).contains(&deviation),
        Augmentation::Cutout(side) => sides(&[side]),
        Augmentation::Mixup(alpha) => alpha > 0.0 && alpha <= 1e3,
    };
    if is_right { Ok(()) } else { Err(format!("the numbers of {} make no sense", written(change))) }
}

/// The size of pictures after a change, where it is known.
fn size_after(change: &Augmentation, size: Option<[usize; 2]>) -> Result<Option<[usize; 2]>, String> {
    let after = match (change, size) {
        (Augmentation::Pad(border), size) => size.map(|sides| sides.map(|side| side + 2 * border)),
        (&Augmentation::RandomCrop([high, wide]), Some([height, width])) if high > height || wide > width => {
            return Err(format!("random_crop takes {high}×{wide} of pictures of {height}×{width}"));
        }
        (Augmentation::RandomCrop(size) | Augmentation::RandomResizedCrop { size, .. }, _) => Some(*size),
        (_, size) => size,
    };
    match after {
        Some([height, width]) if height.saturating_mul(width) > MAX_PIXELS => {
            Err(format!("{} makes pictures of {height}×{width}", word(change)))
        }
        after => Ok(after),
    }
}
