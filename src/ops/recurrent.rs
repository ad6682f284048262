//! Recurrent layers: LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), GRU (Cho et al. 2014,
//! arXiv:1406.1078) and the plain one (Elman 1990), in the forms and with the weights of PyTorch's modules.

use super::attributes::{attribute_enum, attributes};
use super::gradient::{Gradient, Gradients};
use super::images::{Images, apart};
use super::layer::{Args, Arguments, Arity, Layer, LayerError, Param, ParamType, Preset, param};
use super::recurrence::Recurrence;
use super::{Init, Linear, Op, Operation, ShapeError, WeightDecl, positive};
use crate::tensor::{Shape, Tensor};

attribute_enum! {
    /// What a step computes.
    pub enum Cell {
        /// Gates i, f, g, o: `c = σ(f) · c + σ(i) · tanh(g)`, `h = σ(o) · tanh(c)`.
        Lstm = "lstm",
        /// Gates r, z, n: `n = tanh(xₙ + σ(r) · hₙ)`, `h = (1 − σ(z)) · n + σ(z) · h`, where hₙ is `W h + b`.
        Gru = "gru",
        /// As `gru`, but hₙ is `W (σ(r) · h) + b`, which is not multiplied again: the form of the first paper.
        GruResetBefore = "gru_reset_before",
        /// `h = tanh(x + W h)`
        Tanh = "tanh",
        /// `h = relu(x + W h)`
        Relu = "relu",
    }
}

impl Cell {
    /// Gates, each with a row of weights for each hidden unit.
    pub fn gates(self) -> usize {
        match self {
            Cell::Lstm => 4,
            Cell::Gru | Cell::GruResetBefore => 3,
            Cell::Tanh | Cell::Relu => 1,
        }
    }
}

attribute_enum! {
    /// In which order steps are taken.
    pub enum Direction {
        /// From the first element to the last.
        Forward = "forward",
        /// From the last to the first.
        Reverse = "reverse",
        /// Both, each with weights of its own; of a result first the forward one.
        Both = "both",
    }
}

impl Direction {
    /// How many passes there are over a sequence.
    pub fn count(self) -> usize {
        if self == Direction::Both { 2 } else { 1 }
    }
}

attributes! {
    /// `[N, T, I] → [N, T, D · hidden]`, or `[T, N, I] → [T, N, D · hidden]` without `batch_first`, where D is the number of
    /// directions: what the last layer has hidden after each step. Operands: the sequence, what is hidden at first
    /// (`[layers · D, N, hidden]`, zeros where it is not given) and, of an LSTM, the cells at first.
    ///
    /// Weights by layer k: `weight_ih_lk [gates · hidden, inputs]`, `weight_hh_lk [gates · hidden, hidden]` and, where
    /// `bias` is set, `bias_ih_lk` and `bias_hh_lk`; those of a second direction end in `_reverse`.
    pub struct Recurrent {
        cell: Cell,
        hidden: usize,
        layers: usize = 1,
        direction: Direction = Direction::Forward,
        batch_first: bool = true,
        bias: bool = true,
        /// Of one layer of LSTM: the result is `[…, 2 · D · hidden]`, behind what is hidden also the cells.
        cells: bool = false,
    }
}

/// Layers of one op at most: their weights have names.
pub const MAX_LAYERS: usize = 8;

/// Names of the weights of a layer and direction: of inputs, of what is hidden, their biases.
macro_rules! roles {
    ($($k:literal)*) => {
        [$([
            [concat!("weight_ih_l", $k), concat!("weight_hh_l", $k), concat!("bias_ih_l", $k), concat!("bias_hh_l", $k)],
            [
                concat!("weight_ih_l", $k, "_reverse"),
                concat!("weight_hh_l", $k, "_reverse"),
                concat!("bias_ih_l", $k, "_reverse"),
                concat!("bias_hh_l", $k, "_reverse"),
            ],
        ]),*]
    };
}
const ROLES: [[[&str; 4]; 2]; MAX_LAYERS] = roles!(0 1 2 3 4 5 6 7);

impl Recurrent {
    /// Weights that each layer and direction has.
    pub fn weights_each(&self) -> usize {
        if self.bias { 4 } else { 2 }
    }

    /// The steps of a layer, whose products with its inputs are given.
    pub fn recurrence(&self) -> Recurrence {
        let &Recurrent { cell, hidden, direction, batch_first, cells, .. } = self;
        Recurrence { cell, hidden, direction, batch_first, cells, bias: self.keeps_bias() }
    }

    /// The second bias of a GRU's last gate is multiplied; all others are added to the first.
    pub fn keeps_bias(&self) -> bool {
        self.bias && self.cell == Cell::Gru
    }

    /// What a layer adds to its products with the inputs, and what its steps add: of the two biases of a direction.
    pub fn biases(&self, input: &[f64], hidden: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let kept = if self.keeps_bias() { 2 * self.hidden } else { input.len() };
        let added = |(i, (a, b)): (usize, (&f64, &f64))| if i < kept { a + b } else { *a };
        (input.iter().zip(hidden).enumerate().map(added).collect(), hidden[kept..].to_vec())
    }

    fn axes(&self) -> [usize; 2] {
        if self.batch_first { [0, 1] } else { [1, 0] }
    }
}

const HIDDEN: Param = param("hidden", ParamType::Size, Preset::Required, "size of what is hidden");
const LAYERS: Param = param("layers", ParamType::Size, Preset::Int(1), "layers, each on the results of the one before");
const BIDIRECTIONAL: Param =
    param("bidirectional", ParamType::Bool, Preset::Bool(false), "also from the last step to the first");
const REVERSE: Param = param("reverse", ParamType::Bool, Preset::Bool(false), "from the last step to the first only");
const BATCH_FIRST: Param =
    param("batch_first", ParamType::Bool, Preset::Bool(true), "[N, T, …]; else the steps are the first axis");
const BIAS: Param = param("bias", ParamType::Bool, Preset::Bool(true), "add learned values");
const CELLS: Param =
    param("cells", ParamType::Bool, Preset::Bool(false), "the result has the cells behind what is hidden");

fn build(a: &Args, cell: Cell) -> Result<Op, LayerError> {
    let direction = match (a.bool("bidirectional"), a.bool("reverse")) {
        (true, true) => {
            let message = "give either `bidirectional` or `reverse`, not both".into();
            return Err(LayerError { param: "reverse", message });
        }
        (true, false) => Direction::Both,
        (false, true) => Direction::Reverse,
        (false, false) => Direction::Forward,
    };
    Ok(Recurrent {
        cell,
        hidden: a.size("hidden"),
        layers: a.size("layers"),
        direction,
        batch_first: a.bool("batch_first"),
        bias: a.bool("bias"),
        cells: cell == Cell::Lstm && a.bool("cells"),
    }
    .into())
}

fn arguments(op: &Op, of: impl Fn(Cell) -> Option<Arguments>) -> Option<Arguments> {
    let Op::Recurrent(op) = op else { return None };
    let own = of(op.cell)?;
    let mut arguments: Arguments = vec![
        ("hidden", op.hidden.into()),
        ("layers", op.layers.into()),
        ("bidirectional", (op.direction == Direction::Both).into()),
        ("reverse", (op.direction == Direction::Reverse).into()),
        ("batch_first", op.batch_first.into()),
        ("bias", op.bias.into()),
    ];
    if op.cell == Cell::Lstm {
        arguments.push(("cells", op.cells.into()));
    }
    arguments.extend(own);
    Some(arguments)
}

impl Operation for Recurrent {
    const NAME: &'static str = "recurrent";
    const LAYERS: &'static [Layer] = &[
        Layer {
            name: "lstm",
            doc: "LSTM over [N, T, features]: what is hidden after each step; labels give its first states",
            arity: Arity::Operands,
            params: &[HIDDEN, LAYERS, BIDIRECTIONAL, REVERSE, BATCH_FIRST, BIAS, CELLS],
            build: |a| build(a, Cell::Lstm),
            arguments: |op| arguments(op, |cell| (cell == Cell::Lstm).then(Vec::new)),
        },
        Layer {
            name: "gru",
            doc: "GRU over [N, T, features]: what is hidden after each step; a label gives its first state",
            arity: Arity::Operands,
            params: &[
                HIDDEN,
                LAYERS,
                BIDIRECTIONAL,
                REVERSE,
                BATCH_FIRST,
                BIAS,
                param(
                    "reset_after",
                    ParamType::Bool,
                    Preset::Bool(true),
                    "reset products, as PyTorch, or what is hidden",
                ),
            ],
            build: |a| build(a, if a.bool("reset_after") { Cell::Gru } else { Cell::GruResetBefore }),
            arguments: |op| {
                arguments(op, |cell| match cell {
                    Cell::Gru => Some(vec![("reset_after", true.into())]),
                    Cell::GruResetBefore => Some(vec![("reset_after", false.into())]),
                    _ => None,
                })
            },
        },
        Layer {
            name: "rnn",
            doc: "plain recurrent layer over [N, T, features]; a label gives its first state",
            arity: Arity::Operands,
            params: &[
                HIDDEN,
                LAYERS,
                BIDIRECTIONAL,
                REVERSE,
                BATCH_FIRST,
                BIAS,
                param("nonlinearity", ParamType::Str, Preset::Str("tanh"), "tanh or relu"),
            ],
            build: |a| {
                let cell = match a.str("nonlinearity") {
                    "tanh" => Cell::Tanh,
                    "relu" => Cell::Relu,
                    other => {
                        let message = format!("no nonlinearity `{other}`: tanh or relu");
                        return Err(LayerError { param: "nonlinearity", message });
                    }
                };
                build(a, cell)
            },
            arguments: |op| {
                arguments(op, |cell| match cell {
                    Cell::Tanh | Cell::Relu => Some(vec![("nonlinearity", cell.name().into())]),
                    _ => None,
                })
            },
        },
    ];

    fn layer_name(&self) -> &'static str {
        match self.cell {
            Cell::Lstm => "lstm",
            Cell::Gru | Cell::GruResetBefore => "gru",
            Cell::Tanh | Cell::Relu => "rnn",
        }
    }

    fn operands(&self) -> (usize, usize) {
        (1, if self.cell == Cell::Lstm { 3 } else { 2 })
    }

    fn infer(&self, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
        positive("hidden", &[self.hidden])?;
        positive("layers", &[self.layers])?;
        if self.layers > MAX_LAYERS {
            return Err(ShapeError::new(format!("{} layers, of {MAX_LAYERS} at most", self.layers)).param("layers"));
        }
        if self.cells && (self.layers > 1 || self.cell != Cell::Lstm) {
            return Err(ShapeError::new("cells are given of one layer of LSTM").param("cells"));
        }
        let &[outer, inner, _] = inputs[0].dims() else {
            let error = ShapeError::new(format!("{} needs [N, T, features], not {}", self.layer_name(), inputs[0]));
            return Err(error.operand(0).help("`transpose` and `reshape` make a sequence of an image's columns"));
        };
        let states = Shape::from([self.layers * self.direction.count(), [outer, inner][self.axes()[0]], self.hidden]);
        if let Some(i) = (1..inputs.len()).find(|&i| *inputs[i] != states) {
            return Err(ShapeError::new(format!("its first state is {}, where {states} is due", inputs[i])).operand(i));
        }
        let width = self.hidden.checked_mul(self.direction.count() * if self.cells { 2 } else { 1 });
        let width = width.ok_or_else(|| ShapeError::new("the result overflows").param("hidden"))?;
        Ok([outer, inner, width].into())
    }

    fn weights(&self, inputs: &[&Shape]) -> Vec<WeightDecl> {
        let directions = self.direction.count();
        let rows = self.cell.gates().saturating_mul(self.hidden);
        // PyTorch's, for all weights of a layer.
        let bound = 1.0 / (self.hidden as f32).sqrt();
        let init = Init::Uniform { low: -bound, high: bound };
        let mut weights = vec![];
        for (layer, roles) in ROLES.iter().enumerate().take(self.layers) {
            let width = if layer == 0 { inputs[0][2] } else { directions * self.hidden };
            for roles in &roles[..directions] {
                let shapes: [Shape; 4] =
                    [[rows, width].into(), [rows, self.hidden].into(), [rows].into(), [rows].into()];
                let declared = roles.iter().zip(shapes).take(self.weights_each());
                weights.extend(declared.map(|(role, shape)| WeightDecl { role, shape, init, learnable: true }));
            }
        }
        weights
    }

    fn images(&self, images: &[Images], _: &[&Shape], _: &Shape) -> Result<Images, String> {
        apart(images[0], &[self.axes()[1], 2])?;
        // States have the images along their second axis.
        let states = images[1..].iter().all(|i| matches!(i, Images::Nowhere | Images::Along { axis: 1, .. }));
        if states { Ok(images[0]) } else { Err("its first state has the images elsewhere".into()) }
    }

    fn evaluate(&self, inputs: &[&Tensor], weights: &[&Tensor], _: &Shape) -> Tensor {
        let (directions, each) = (self.direction.count(), self.weights_each());
        let [outer, inner] = [0, 1].map(|axis| inputs[0].shape()[axis]);
        let mut x = inputs[0].clone();
        for layer in 0..self.layers {
            let own = &weights[layer * directions * each..][..directions * each];
            let width = x.shape()[2];
            let flat = x.reshaped(Shape::from([outer * inner, width]));
            let (rows, linear) =
                (own[0].shape()[0], |bias| Linear { features: own[0].shape()[0], bias, epilogue: vec![] });
            let mut products = vec![];
            let (mut recurrent, mut kept) = (vec![], vec![]);
            for own in own.chunks(each) {
                let output = Shape::from([outer * inner, rows]);
                let mut read = vec![own[0]];
                let bias: Option<Tensor> = self.bias.then(|| {
                    let [input, hidden] = [own[2], own[3]].map(|b| b.values().collect::<Vec<_>>());
                    let (added, stays) = self.biases(&input, &hidden);
                    kept.extend(stays);
                    Tensor::from_values(Shape::from([rows]), added)
                });
                read.extend(&bias);
                products.push(linear(self.bias).evaluate(&[&flat], &read, &output));
                recurrent.extend(own[1].values());
            }
            let gates = (0..outer * inner)
                .flat_map(|row| products.iter().flat_map(move |p| p.data()[row * rows..][..rows].to_vec()));
            let gates = Tensor::from_values(Shape::from([outer, inner, directions * rows]), gates.map(f64::from));
            let mut operands = vec![gates];
            for state in &inputs[1..] {
                let size = state.shape().elements() / self.layers;
                let part = state.values().skip(layer * size).take(size);
                let shape = Shape::from([directions, state.shape()[1], self.hidden]);
                operands.push(Tensor::from_values(shape, part));
            }
            let mut read =
                vec![Tensor::from_values(Shape::from([directions, rows, self.hidden]), recurrent.into_iter())];
            if self.keeps_bias() {
                read.push(Tensor::from_values(Shape::from([directions, self.hidden]), kept));
            }
            let op = self.recurrence();
            let operands: Vec<&Tensor> = operands.iter().collect();
            let shape = op.infer(&operands.iter().map(|o| o.shape()).collect::<Vec<_>>()).expect("made to fit");
            x = op.evaluate(&operands, &read.iter().collect::<Vec<_>>(), &shape);
        }
        x
    }

    fn macs(&self, inputs: &[&Shape], _: &Shape) -> u64 {
        let steps = (inputs[0][0] as u64).saturating_mul(inputs[0][1] as u64);
        let matrices = self.weights(inputs).into_iter().filter(|w| w.shape.rank() == 2);
        matrices.fold(0, |sum: u64, w| sum.saturating_add(steps.saturating_mul(w.shape.elements() as u64)))
    }

    fn gradient(&self, _: &mut Gradient) -> Gradients {
        Err("has no gradient in netc yet".into())
    }
}
