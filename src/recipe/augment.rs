//! What is done to samples before a step takes them.

/// A change of a picture that leaves its class what it is. Sizes are in pixels of what comes before, after the
/// input's preprocessing but for its mean and deviation: values are 0 to 1. Where a change takes a random part, the
/// preprocessing's central crop is left out, and its resize where that part is resized.
#[derive(Clone, Debug, PartialEq)]
pub enum Augmentation {
    /// So many pixels of zeros (black) at each side.
    Pad(usize),
    /// A part of this height and width, anywhere.
    RandomCrop([usize; 2]),
    /// A part of a random share of the area and a random ratio of width to height, resized to this height and width
    /// (Szegedy et al. 2014; torchvision's `RandomResizedCrop`).
    RandomResizedCrop {
        /// Height and width.
        size: [usize; 2],
        /// Least and largest share of the area.
        scale: [f64; 2],
        /// Least and largest ratio.
        ratio: [f64; 2],
    },
    /// Mirrored left to right with this probability.
    Flip(f64),
    /// Turned by up to so many degrees either way; corners become zeros.
    Rotate(f64),
    /// Multiplied by 1 ± this.
    Brightness(f64),
    /// Moved from its mean grey by the factor 1 ± this.
    Contrast(f64),
    /// Moved from its own grey by the factor 1 ± this.
    Saturation(f64),
    /// AlexNet's lighting: the principal components of ImageNet's colours, by normal factors of this deviation
    /// (Krizhevsky et al. 2012, section 4.1).
    Lighting(f64),
    /// A square of this many pixels becomes zeros (DeVries and Taylor 2017, arXiv:1708.04552).
    Cutout(usize),
    /// Samples and labels of a batch are mixed with others by a share of Beta(α, α) (Zhang et al. 2017,
    /// arXiv:1710.09412).
    Mixup(f64),
}
