//! Weights: named tensors that a graph's ops use, their values mapped, computed or seeded.
//!
//! A weight's values exist when somebody asks for them: those of a file stay in the mapping, those
//! of a seeded initialisation are generated on demand and again, so that a large network costs no
//! memory until its weights are packed. This folder knows no graph, and of ops only how they ask for
//! initial values.

pub mod entries;
pub mod file;
mod hdf5;
mod keras;
pub mod load;
pub(crate) mod matching;
mod ndarray;
mod npz;
mod pickle;
mod pth;
pub(crate) mod rename;
pub mod safetensors;
mod seeded;
mod sharded;
#[cfg(test)]
mod tests;
mod weight_norm;

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

pub(crate) use crate::archive::{DEFAULT_INFLATION, DEFAULT_UNPACKED};
pub(crate) use file::Trained;
pub use file::open;
pub(crate) use file::{Choice, FileError, Format, WeightFile, open_within};
pub(crate) use seeded::SplitMix;

use crate::ops::Init;
use crate::tensor::{Element, Shape, Tensor};

/// Names a weight within one [`Weights`] store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WeightId(u32);

impl WeightId {
    /// Its place in the store, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Values that somebody holds: a vector, or a part of a mapped file.
pub(crate) type Values = Arc<dyn AsRef<[f32]> + Send + Sync>;

#[derive(Clone)]
enum Data {
    /// Generated from the store's seed, the name and the initialisation.
    Seeded,
    Values(Values),
}

#[derive(Clone)]
pub struct Weight {
    pub name: String,
    pub shape: Shape,
    pub init: Init,
    /// Counts as a parameter.
    pub learnable: bool,
    data: Data,
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "@{}: {}", self.name, self.shape)
    }
}

fn fingerprint(shape: &Shape, values: &[f32]) -> u64 {
    let mut hasher = DefaultHasher::new();
    shape.hash(&mut hasher);
    bytemuck::cast_slice::<f32, u8>(values).hash(&mut hasher);
    hasher.finish()
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// All weights of a graph.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    items: Vec<Weight>,
    by_name: HashMap<String, WeightId>,
    /// Names that layers would have given to weights which they share.
    aliases: BTreeMap<String, WeightId>,
    /// How many weights were computed of one, by its name, and which, by name and contents.
    derivations: HashMap<String, usize>,
    derived: HashMap<(String, u64), Vec<WeightId>>,
    /// What values are generated from, for weights that have none.
    pub seed: u64,
    /// What the network and the values were read from. Whoever writes a file of them keeps these.
    pub files: Vec<PathBuf>,
}

/// A name that is taken already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two weights are named {name}")]
pub struct DuplicateName {
    /// The name.
    pub name: String,
    /// The weight that has it.
    pub first: WeightId,
}

impl Weights {
    /// Adds a weight whose values are seeded until [`Self::set`] gives others.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn declare(
        &mut self,
        name: &str,
        shape: Shape,
        init: Init,
        learnable: bool,
    ) -> Result<WeightId, DuplicateName> {
        if let Some(&first) = self.by_name.get(name) {
            return Err(DuplicateName { name: name.into(), first });
        }
        let id = WeightId(self.items.len() as u32);
        self.items.push(Weight { name: name.into(), shape, init, learnable, data: Data::Seeded });
        self.by_name.insert(name.into(), id);
        Ok(id)
    }

    /// Says how a weight begins that no file gives values.
    pub fn set_init(&mut self, id: WeightId, init: Init) {
        self.items[id.index()].init = init;
    }

    /// Says that a weight goes by another name too: files may have it under both.
    pub fn add_alias(&mut self, name: &str, id: WeightId) {
        self.aliases.insert(name.into(), id);
    }

    /// The other names of weights.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&str, WeightId)> {
        self.aliases.iter().map(|(name, &id)| (name.as_str(), id))
    }

    /// Adds a weight that a pass computed, named after `origin` with primes: `conv1.weight'`, from the fourth on with a
    /// number, `conv1.weight'4`. One of the same origin, shape and values is taken again.
    pub fn derive(&mut self, origin: &str, shape: impl Into<Shape>, values: Vec<f32>, learnable: bool) -> WeightId {
        let shape = shape.into();
        assert_eq!(shape.elements(), values.len(), "derived weight {origin} does not fill {shape}");
        let contents = (origin.to_string(), fingerprint(&shape, &values));
        let same = |&id: &WeightId| {
            let weight = self.get(id);
            let holds = |data: &Data| matches!(data, Data::Values(v) if same_bits((**v).as_ref(), &values));
            weight.shape == shape && weight.learnable == learnable && holds(&weight.data)
        };
        if let Some(id) = self.derived.get(&contents).and_then(|known| known.iter().copied().find(same)) {
            return id;
        }
        let name = loop {
            let count = self.derivations.entry(origin.to_string()).or_default();
            *count += 1;
            let name = match *count {
                1..=3 => format!("{origin}{}", "'".repeat(*count)),
                count => format!("{origin}'{count}"),
            };
            if !self.by_name.contains_key(&name) {
                break name;
            }
        };
        let id = self.declare(&name, shape, Init::Constant(0.0), learnable).expect("the name is new");
        self.set(id, Arc::new(values));
        self.derived.entry(contents).or_default().push(id);
        id
    }

    /// A weight by its number.
    ///
    /// # Panics
    /// Where the number is of another store.
    pub fn get(&self, id: WeightId) -> &Weight {
        &self.items[id.0 as usize]
    }

    /// The weight of that name.
    pub fn find(&self, name: &str) -> Option<WeightId> {
        self.by_name.get(name).copied()
    }

    /// All weights in the order of their declarations.
    pub fn iter(&self) -> impl Iterator<Item = (WeightId, &Weight)> {
        self.items.iter().enumerate().map(|(i, w)| (WeightId(i as u32), w))
    }

    /// Gives a weight its values.
    ///
    /// # Panics
    /// When their number is not that of the weight's shape.
    pub fn set(&mut self, id: WeightId, values: Values) {
        let weight = &mut self.items[id.0 as usize];
        assert_eq!((*values).as_ref().len(), weight.shape.elements(), "values of {}", weight.name);
        weight.data = Data::Values(values);
    }

    /// Initialises all weights by a seed again.
    pub fn forget_values(&mut self, seed: u64) {
        self.seed = seed;
        self.items.iter_mut().for_each(|w| w.data = Data::Seeded);
    }

    /// The values, row-major. Seeded ones are generated by this call.
    pub fn values(&self, id: WeightId) -> Values {
        let weight = self.get(id);
        match &weight.data {
            Data::Values(v) => v.clone(),
            Data::Seeded => Arc::new(seeded::generate(self.seed, &weight.name, &weight.shape, weight.init)),
        }
    }

    /// The values as a tensor of the weight's shape.
    pub(crate) fn tensor(&self, id: WeightId) -> Tensor {
        let (shape, values) = (self.get(id).shape.clone(), self.values(id));
        match shape.element() {
            Element::F32 => Tensor::new(shape, (*values).as_ref().to_vec()),
            _ => Tensor::from_values(shape, (*values).as_ref().iter().map(|&v| f64::from(v))),
        }
    }

    /// Whether the values come from the seed rather than a file or a pass.
    pub fn is_seeded(&self, id: WeightId) -> bool {
        matches!(self.get(id).data, Data::Seeded)
    }
}
