//! Giving a network's weights the values of a file: all of them, and nothing that does not fit.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use crate::parallel;
use rayon::prelude::*;

use super::entries::{Encoding, Entry};
use super::weight_norm::with_weight_norm;
use super::{WeightId, Weights};
use crate::diagnostic::nearest;
use crate::tensor::{Element, NotFinite, Shape};

/// What a file had to do with a network that it fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Weights that now have the file's values.
    pub weights: usize,
    /// Tensors that training keeps and no network computes with (`num_batches_tracked`).
    pub bookkeeping: usize,
    /// Weights that the file lacks and that may be missing.
    pub absent: Vec<String>,
    /// Tensors of the file that belong to parts which only training has.
    pub unused: Vec<String>,
    /// Weights that the file lacks, which keep their initial values as [`Tolerance::missing`] allows.
    pub missing: Vec<String>,
    /// Tensors that the network does not have, which [`Tolerance::extra`] allows.
    pub extra: Vec<String>,
    /// Weights whose axes of size 1 stand elsewhere in the file, such as `[O, I]` for `[O, I, 1, 1]`.
    pub reshaped: usize,
    /// What [`not_finite`] found.
    pub not_finite: Vec<(WeightId, NotFinite)>,
    /// Renamings that no name of the file matches.
    pub idle_renames: Vec<String>,
    /// What was taken from the beginning of every name.
    pub prefix: Option<&'static str>,
}

/// Which differences between a file and a network are none.
#[derive(Clone, Debug, Default)]
pub struct Tolerance {
    /// Weights that no output needs which will be computed: they may be missing.
    pub optional: BTreeSet<WeightId>,
    /// Names that the network has in another phase: the file may have them.
    pub elsewhere: BTreeSet<String>,
    /// Weights may be missing in the file.
    pub missing: bool,
    /// The file may have tensors that the network does not.
    pub extra: bool,
}

/// A file that does not fit a network: everything that is wrong, at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// Weights that the file does not have.
    pub missing: Vec<Missing>,
    /// Tensors that the network does not have.
    pub unexpected: Vec<Unexpected>,
    /// Names that both have, under different shapes.
    pub wrong_shape: Vec<WrongShape>,
    /// Names under which the file has a shared weight once more, with other values, and the weight's own.
    pub unequal: Vec<(String, String)>,
    /// Tensors that are no floating-point numbers.
    pub wrong_type: Vec<(String, String)>,
    /// What all names of the file begin with, where the network has them without it.
    pub prefix: Option<String>,
    /// First words of names of the file behind which stands all that is missing: several sets of weights.
    pub keys: Vec<String>,
    /// A parameter of the model with which the weights would fit: `classes=100`.
    pub setting: Option<String>,
}

/// A weight that the file does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The weight's name in the network.
    pub name: String,
    /// The shape that the network gives it.
    pub shape: Shape,
    /// The most similar name among the file's unexpected tensors.
    pub nearest: Option<String>,
}

/// A tensor that the network does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unexpected {
    /// The tensor's name in the file, after renaming.
    pub name: String,
    /// The shape that the file gives it.
    pub shape: Shape,
    /// The most similar name among the network's missing weights.
    pub nearest: Option<String>,
}

/// A name that both sides have, under different shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongShape {
    /// The name.
    pub name: String,
    /// The network's.
    pub expected: Shape,
    /// The file's.
    pub found: Shape,
}

/// How many entries of a kind an error lists in full.
const LISTED: usize = 12;

/// Where a program trains a network as a part of something else, such as Lightning's modules.
const PART_PREFIXES: [&str; 1] = ["model."];

/// Gives every weight the values that `entries` has under its name. Weights that may be missing
/// stay as they are where they are missing. Where names do not fit and all of them begin with `model.`, it is left
/// out, if they fit then.
///
/// # Errors
/// Where a name or shape on either side has no counterpart on the other. `weights` is then unchanged.
pub fn load(weights: &mut Weights, entries: &[Entry], tolerance: &Tolerance) -> Result<Loaded, Box<Misfit>> {
    let whole = with_weight_norm(weights, entries, &PART_PREFIXES);
    let (entries, prefix) = as_compared(weights, &whole, tolerance);
    let (mut loaded, mut misfit, found) = compare_all(weights, &entries, tolerance);
    misfit.suggest();
    // A file that has nothing of the network is another network's.
    if loaded.weights > 0 {
        misfit.forgive(tolerance, &mut loaded);
    }
    if !misfit.is_empty() {
        return Err(misfit.into());
    }
    for (id, entry) in found {
        let values = entry.values().expect("other encodings were refused");
        weights.set(id, values);
    }
    Ok(Loaded { prefix, ..loaded })
}

/// Weights that are needed and have values of a file which are no finite numbers. Reads all of them, in
/// parallel.
pub fn not_finite(weights: &Weights, tolerance: &Tolerance) -> Vec<(WeightId, NotFinite)> {
    const PART: usize = 1 << 20;
    fn of_part((i, part): (usize, &[f32])) -> Option<NotFinite> {
        let odd = NotFinite::among(part)?;
        Some(NotFinite { first: i * PART + odd.first, ..odd })
    }
    let join = |a: NotFinite, b: NotFinite| NotFinite {
        nan: a.nan + b.nan,
        infinite: a.infinite + b.infinite,
        first: a.first.min(b.first),
    };
    let all: Vec<WeightId> = weights.iter().map(|(id, _)| id).collect();
    let needed = all.into_par_iter().filter(|id| !weights.is_seeded(*id) && !tolerance.optional.contains(id));
    let odd = needed.filter_map(|id| {
        let values = weights.values(id);
        let parts = (*values).as_ref().par_chunks(PART).enumerate();
        Some((id, parts.filter_map(of_part).reduce_with(join)?))
    });
    parallel::shared(|| odd.collect())
}

/// What of `entries` fits the weights, and what does not. `Loaded::weights` counts what would be loaded.
pub fn compare(weights: &Weights, entries: &[Entry], tolerance: &Tolerance) -> (Loaded, Misfit) {
    let whole = with_weight_norm(weights, entries, &PART_PREFIXES);
    let (entries, prefix) = as_compared(weights, &whole, tolerance);
    let (mut loaded, mut misfit, _) = compare_all(weights, &entries, tolerance);
    misfit.suggest();
    if loaded.weights > 0 {
        misfit.forgive(tolerance, &mut loaded);
    }
    (Loaded { prefix, ..loaded }, misfit)
}

/// The entries by the names under which they are compared: without what all of their names begin with, where it is one of
/// [`PART_PREFIXES`] and they fit only then.
fn as_compared<'e>(
    weights: &Weights,
    entries: &'e [Entry],
    tolerance: &Tolerance,
) -> (Cow<'e, [Entry]>, Option<&'static str>) {
    let fits = |entries: &[Entry]| {
        let (loaded, misfit, _) = compare_all(weights, entries, tolerance);
        misfit.is_empty() || (loaded.weights > 0 && (tolerance.missing || tolerance.extra))
    };
    let starts_all = |prefix: &&str| entries.iter().all(|e| e.name.starts_with(*prefix));
    if let Some(prefix) = PART_PREFIXES.into_iter().find(starts_all)
        && !fits(entries)
    {
        let shorter = |entry: &Entry| Entry { name: entry.name[prefix.len()..].into(), ..entry.clone() };
        let entries: Vec<Entry> = entries.iter().map(shorter).collect();
        if fits(&entries) {
            return (entries.into(), Some(prefix));
        }
    }
    (entries.into(), None)
}

type Found<'e> = Vec<(WeightId, &'e Entry)>;

fn compare_all<'e>(weights: &Weights, entries: &'e [Entry], tolerance: &Tolerance) -> (Loaded, Misfit, Found<'e>) {
    let (bookkeeping, entries): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|e| is_bookkeeping(&e.name));
    let by_name: BTreeMap<&str, &Entry> = entries.iter().map(|e| (e.name.as_str(), *e)).collect();
    let mut loaded = Loaded { bookkeeping: bookkeeping.len(), ..Loaded::default() };
    let mut misfit = Misfit::default();
    let mut found = vec![];
    for (id, weight) in weights.iter() {
        match by_name.get(weight.name.as_str()) {
            Some(entry) if !is_alike(&entry.shape, &weight.shape) => misfit.wrong_shape.push(WrongShape {
                name: weight.name.clone(),
                expected: weight.shape.clone(),
                found: entry.shape.clone(),
            }),
            // Whole numbers may come as any numbers; numbers that are not whole come as such.
            Some(entry) if !fits(entry.encoding, weight.shape.element()) => {
                misfit.wrong_type.push((weight.name.clone(), entry.encoding.to_string()));
            }
            Some(entry) => {
                loaded.reshaped += usize::from(entry.shape.dims() != weight.shape.dims());
                found.push((id, *entry));
            }
            None if tolerance.optional.contains(&id) => loaded.absent.push(weight.name.clone()),
            None => {
                misfit.missing.push(Missing { name: weight.name.clone(), shape: weight.shape.clone(), nearest: None })
            }
        }
    }
    // What layers share may stand in a file under the name of each, with the same values.
    let mut is_alias = HashSet::new();
    for (alias, id) in weights.aliases() {
        let Some(entry) = by_name.get(alias) else { continue };
        let of_weight = by_name.get(weights.get(id).name.as_str());
        if let Some(own) = of_weight
            && entry.shape == own.shape
            && same_values(entry, own)
        {
            is_alias.insert(alias);
        } else if let Some(own) = of_weight {
            misfit.unequal.push((alias.into(), own.name.clone()));
            is_alias.insert(alias);
        }
    }
    let stray = entries.iter().filter(|e| weights.find(&e.name).is_none() && !is_alias.contains(e.name.as_str()));
    let (unused, stray): (Vec<&Entry>, Vec<&Entry>) = stray.partition(|e| tolerance.allows(&e.name));
    loaded.unused = unused.iter().map(|e| e.name.clone()).collect();
    let stray = stray.iter().map(|e| Unexpected { name: e.name.clone(), shape: e.shape.clone(), nearest: None });
    misfit.unexpected = stray.collect();
    loaded.weights = found.len();
    (loaded, misfit, found)
}

impl Tolerance {
    /// Whether a file may have a tensor that the network does not. Auxiliary heads are known by
    /// their customary names too, since many networks are written down without them.
    fn allows(&self, name: &str) -> bool {
        self.elsewhere.contains(name) || name.split('.').any(|part| part.to_ascii_lowercase().starts_with("aux"))
    }
}

/// Whether shapes are the same but for axes of size 1, which change no number's place: a linear layer's `[O, I]` is the
/// 1×1 convolution's `[O, I, 1, 1]`, and `[O, I, K]` of one axis is `[O, I, 1, K]` of two.
fn is_alike(a: &Shape, b: &Shape) -> bool {
    let proper = |shape: &Shape| shape.dims().iter().copied().filter(|&size| size != 1).collect::<Vec<_>>();
    proper(a) == proper(b)
}

fn same_values(a: &Entry, b: &Entry) -> bool {
    match (a.values(), b.values()) {
        (Some(a), Some(b)) => super::same_bits((*a).as_ref(), (*b).as_ref()),
        _ => false,
    }
}

/// Whether a weight of that element may be encoded so.
fn fits(encoding: Encoding, element: Element) -> bool {
    match encoding {
        Encoding::Other(_) => false,
        encoding => encoding.is_float() || !element.is_float(),
    }
}

/// The number of models that PyTorch's `AveragedModel` is the mean of.
pub(super) const AVERAGED: &str = "n_averaged";

/// PyTorch counts the batches that a batch norm has seen, and the models that an average is of.
fn is_bookkeeping(name: &str) -> bool {
    name == AVERAGED || name == "num_batches_tracked" || name.ends_with(".num_batches_tracked")
}

impl Misfit {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Takes out what the tolerance allows, and notes it.
    fn forgive(&mut self, tolerance: &Tolerance, loaded: &mut Loaded) {
        if tolerance.missing {
            loaded.missing = std::mem::take(&mut self.missing).into_iter().map(|missing| missing.name).collect();
        }
        if tolerance.extra {
            loaded.extra = std::mem::take(&mut self.unexpected).into_iter().map(|extra| extra.name).collect();
        }
        if self.missing.is_empty() || self.unexpected.is_empty() {
            self.prefix = None;
            self.keys = vec![];
        }
    }

    /// Pairs what is missing with what is there instead, for the entries that will be listed.
    fn suggest(&mut self) {
        self.prefix = self.common_prefix();
        self.keys = if self.prefix.is_some() { vec![] } else { self.sets() };
        let missing: Vec<String> = self.missing.iter().map(|m| m.name.clone()).collect();
        let stray: Vec<String> = self.unexpected.iter().map(|u| u.name.clone()).collect();
        for m in self.missing.iter_mut().take(LISTED) {
            m.nearest = nearest(&m.name, stray.iter().map(String::as_str)).map(String::from);
        }
        for u in self.unexpected.iter_mut().take(LISTED) {
            u.nearest = nearest(&u.name, missing.iter().map(String::as_str)).map(String::from);
        }
    }
}

impl Misfit {
    /// The first word of all unexpected names, where what follows it is what is missing, of most of them.
    fn common_prefix(&self) -> Option<String> {
        let word = &self.unexpected.first()?.name.split_inclusive('.').next()?;
        let missing: HashSet<&str> = self.missing.iter().map(|m| m.name.as_str()).collect();
        let rests: Option<Vec<&str>> = self.unexpected.iter().map(|u| u.name.strip_prefix(word)).collect();
        let found = rests?.iter().filter(|rest| missing.contains(**rest)).count();
        (word.ends_with('.') && 2 * found > self.unexpected.len()).then(|| word.to_string())
    }

    /// First words of unexpected names, behind each of which stands all that is missing.
    fn sets(&self) -> Vec<String> {
        let Some(first) = self.missing.first() else { return vec![] };
        let unexpected: HashSet<&str> = self.unexpected.iter().map(|u| u.name.as_str()).collect();
        let before = |name: &'_ str| Some(name.strip_suffix(first.name.as_str())?.strip_suffix('.')?.to_string());
        let words: BTreeSet<String> = self.unexpected.iter().filter_map(|u| before(&u.name)).collect();
        let has_all = |word: &String| {
            self.missing.iter().all(|missing| unexpected.contains(format!("{word}.{}", missing.name).as_str()))
        };
        words.into_iter().filter(|word| !word.is_empty() && has_all(word)).collect()
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the weights do not fit the network")?;
        list(f, "missing in the file", &self.missing, |m| {
            format!("{} {}{}", m.name, m.shape, hint("the file has", &m.nearest))
        })?;
        list(f, "unknown to the network", &self.unexpected, |u| {
            format!("{} {}{}", u.name, u.shape, hint("the network has", &u.nearest))
        })?;
        list(f, "of another shape", &self.wrong_shape, |w| {
            format!("{}: the network has {}, the file {}", w.name, w.expected, w.found)
        })?;
        list(f, "shared in the network, with other values in the file", &self.unequal, |(alias, name)| {
            format!("{alias} is not {name}")
        })?;
        list(f, "not of floating-point numbers", &self.wrong_type, |(name, ty)| format!("{name}: {ty}"))?;
        if let Some(prefix) = &self.prefix {
            let rule = regex::escape(prefix);
            write!(f, "\n  all names of the file begin with `{prefix}`: --rename '^{rule}=' takes it away")?;
        }
        if let Some(key) = self.keys.first() {
            let words: Vec<String> = self.keys.iter().map(|key| format!("`{key}.`")).collect();
            write!(f, "\n  what is missing stands behind {}: FILE:{key} takes those weights", words.join(" and "))?;
        }
        match &self.setting {
            Some(setting) => write!(f, "\n  they fit with --set {setting}"),
            None => Ok(()),
        }
    }
}

fn hint(text: &str, nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!(" ({text} {n})")).unwrap_or_default()
}

fn list<T>(f: &mut fmt::Formatter<'_>, title: &str, items: &[T], line: impl Fn(&T) -> String) -> fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {} {title}:", items.len())?;
    for item in items.iter().take(LISTED) {
        write!(f, "\n    {}", line(item))?;
    }
    if items.len() > LISTED {
        write!(f, "\n    and {} more", items.len() - LISTED)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Init;
    use memmap2::MmapMut;
    use std::sync::Arc;

    fn network(names: &[(&str, &[usize])]) -> Weights {
        let mut weights = Weights::default();
        for (name, shape) in names {
            weights.declare(name, Shape::new(*shape), Init::Constant(0.0), true).unwrap();
        }
        weights
    }

    fn entry(name: &str, shape: &[usize], encoding: Encoding) -> Entry {
        let shape = Shape::new(shape);
        let mut map = MmapMut::map_anon(8 * shape.elements().max(1)).unwrap();
        map.fill(0x3f);
        let bytes = match encoding {
            Encoding::F64 => 8,
            Encoding::F32 => 4,
            _ => 2,
        };
        let range = 0..bytes * shape.elements();
        Entry {
            name: name.into(),
            shape,
            encoding,
            bytes: (Arc::new(map.make_read_only().unwrap()), range),
            strides: None,
        }
    }

    #[test]
    fn all_encodings_load() {
        let mut weights = network(&[("a", &[3]), ("b", &[3]), ("c", &[3]), ("d", &[3])]);
        let encodings = [Encoding::F32, Encoding::F64, Encoding::F16, Encoding::Bf16];
        let mut entries: Vec<Entry> =
            ["a", "b", "c", "d"].iter().zip(encodings).map(|(n, e)| entry(n, &[3], e)).collect();
        entries.push(entry("bn1.num_batches_tracked", &[], Encoding::Other("i64")));
        let loaded = load(&mut weights, &entries, &Tolerance::default()).unwrap();
        assert_eq!(loaded, Loaded { weights: 4, bookkeeping: 1, ..Loaded::default() });
        let first = |name: &str| (*weights.values(weights.find(name).unwrap())).as_ref()[0];
        // 0x3f3f, 0x3f3f3f3f and so on, read in each encoding.
        assert_eq!(first("a"), f32::from_bits(0x3f3f_3f3f));
        assert_eq!(first("b"), f64::from_bits(0x3f3f_3f3f_3f3f_3f3f) as f32);
        assert_eq!(first("c"), 1.8115234);
        assert_eq!(first("d"), f32::from_bits(0x3f3f_0000));
    }

    /// Whole numbers may come as any numbers, and other numbers not as whole ones.
    #[test]
    fn whole_weights_take_whole_and_other_numbers() {
        for (element, encoding, fits) in [
            (Element::I8, Encoding::I8, true),
            (Element::I8, Encoding::F16, true),
            (Element::U8, Encoding::U8, true),
            (Element::F32, Encoding::I8, false),
            (Element::I8, Encoding::Other("i64"), false),
        ] {
            let mut weights = Weights::default();
            weights.declare("a", Shape::of(element, [2]), Init::Constant(0.0), true).unwrap();
            let bytes = encoding.size().unwrap_or(8);
            let entry =
                Entry { bytes: (Arc::new(vec![0x80u8; 2 * bytes]), 0..2 * bytes), ..entry("a", &[2], encoding) };
            let loaded = load(&mut weights, &[entry], &Tolerance::default());
            assert_eq!(loaded.is_ok(), fits, "{element} {encoding}");
            if encoding == Encoding::I8 && fits {
                assert_eq!((*weights.values(weights.find("a").unwrap())).as_ref(), [-128.0, -128.0]);
            }
        }
    }

    #[test]
    fn odd_values_are_found_where_they_are_needed() {
        let mut weights = network(&[("a", &[2, 3]), ("b", &[3]), ("aux", &[3])]);
        let entry =
            |name: &str, shape: &[usize], values: Vec<f32>| Entry::of(name.into(), Shape::new(shape), Arc::new(values));
        let entries = [
            entry("a", &[2, 3], vec![0.0, 1.0, 2.0, 3.0, f32::NAN, f32::INFINITY]),
            entry("b", &[3], vec![0.0; 3]),
            entry("aux", &[3], vec![f32::NAN; 3]),
        ];
        let optional = BTreeSet::from([weights.find("aux").unwrap()]);
        let tolerance = Tolerance { optional, ..Tolerance::default() };
        load(&mut weights, &entries, &tolerance).unwrap();
        let a = weights.find("a").unwrap();
        assert_eq!(not_finite(&weights, &tolerance), [(a, NotFinite { nan: 1, infinite: 1, first: 4 })]);
    }

    #[test]
    fn what_only_training_has_may_be_missing_on_either_side() {
        let mut weights = network(&[("a", &[3]), ("aux1.weight", &[3])]);
        let optional = BTreeSet::from([weights.find("aux1.weight").unwrap()]);
        let tolerance =
            Tolerance { optional, elsewhere: BTreeSet::from(["head.bias".to_string()]), ..Tolerance::default() };
        let entries = ["a", "head.bias", "AuxLogits.fc.bias"].map(|n| entry(n, &[3], Encoding::F32));
        let loaded = load(&mut weights, &entries, &tolerance).unwrap();
        assert_eq!(loaded.absent, ["aux1.weight"]);
        assert_eq!(loaded.unused, ["head.bias", "AuxLogits.fc.bias"]);
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let mut weights = network(&[
            ("conv1.weight", &[8, 3, 3, 3]),
            ("conv1.bias", &[8]),
            ("fc.weight", &[10, 8]),
            ("fc.bias", &[10]),
        ]);
        let entries = [
            entry("conv.1.weight", &[8, 3, 3, 3], Encoding::F32),
            entry("fc.weight", &[8, 10], Encoding::F32),
            entry("fc.bias", &[10], Encoding::Other("i64")),
            entry("layer9.0.downsample", &[1], Encoding::F32),
        ];
        let misfit = load(&mut weights, &entries, &Tolerance::default()).unwrap_err();
        insta::assert_snapshot!(misfit.to_string());
        assert!(weights.iter().all(|(id, _)| weights.is_seeded(id)), "weights were changed");
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..40).map(|i| format!("layer{i}.weight")).collect();
        let mut weights = network(&names.iter().map(|n| (n.as_str(), &[1usize][..])).collect::<Vec<_>>());
        let text = load(&mut weights, &[], &Tolerance::default()).unwrap_err().to_string();
        assert!(text.ends_with("and 28 more") && text.lines().count() == 15, "{text}");
    }
}
