//! The syntax tree: a `.net` file as written, every part with its span.
//!
//! Names are not resolved here and nothing is evaluated; a layer is only a name with arguments.

use crate::diagnostic::Span;
use std::collections::BTreeSet;

/// One file. Parts that could not be parsed stand as `Error` items and statements.
#[derive(Clone, Debug, Default)]
pub(crate) struct File {
    pub version: Option<(u64, Span)>,
    pub items: Vec<Item>,
    /// Words in text that could not be parsed. Each may be the name of something that the text
    /// defines, so that its absence says nothing.
    pub lost_words: BTreeSet<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Item {
    Use(Use),
    Definition(Definition),
    Let(Let),
    Table(Table),
    Train(Train),
    Function(Function),
    Error,
}

/// `use "blocks.net"` or `use std.resnet`.
#[derive(Clone, Debug)]
pub(crate) struct Use {
    pub path: UsePath,
    pub span: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UsePath {
    File(String),
    /// Without the leading `std.`.
    Std(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DefinitionKind {
    Module,
    Model,
}

impl DefinitionKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            DefinitionKind::Module => "module",
            DefinitionKind::Model => "model",
        }
    }
}

/// A module or a model.
#[derive(Clone, Debug)]
pub(crate) struct Definition {
    pub kind: DefinitionKind,
    pub name: Ident,
    pub params: Vec<Param>,
    pub body: Block,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ident {
    pub name: String,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Param {
    pub name: Ident,
    pub default: Option<Expr>,
}

/// `fn name(parameters) = body`
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub name: Ident,
    pub params: Vec<Param>,
    pub body: Expr,
}

#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub statements: Vec<Statement>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub label: Option<Label>,
    pub kind: StatementKind,
    pub span: Span,
    /// No other statement of its block stands before it on its line.
    pub new_line: bool,
}

/// The statements of each line: what `branches` takes for one branch.
pub(crate) fn lines(statements: &[Statement]) -> impl Iterator<Item = &[Statement]> {
    statements.chunk_by(|_, next| !next.new_line)
}

#[derive(Clone, Debug)]
pub(crate) enum StatementKind {
    Call(Call),
    Block(Block),
    Branches(Branches),
    Residual {
        /// Where it is false, only the body is there.
        condition: Option<Expr>,
        body: Block,
        skip: Option<Block>,
    },
    Aux(Aux),
    For {
        pattern: Pattern,
        items: Expr,
        body: Block,
    },
    /// Condition and block of each `if` and `else if`, then the `else`.
    If {
        arms: Vec<(Expr, Block)>,
        otherwise: Option<Block>,
    },
    When {
        phase: Ident,
        body: Block,
    },
    Let(Let),
    Table(Table),
    Require {
        condition: Expr,
        message: Option<Expr>,
    },
    Expect(Expect),
    Input {
        name: Ident,
        dtype: Ident,
        dims: Vec<Expr>,
    },
    Output {
        name: Label,
        from: Option<Label>,
    },
    Preprocess {
        input: Option<Ident>,
        settings: Vec<Setting>,
    },
    ClassLabels(Expr),
    From(Expr),
    /// Text that could not be parsed, with the block after it where there is one.
    Error(Option<Block>),
}

/// `expect metric(args) <= value unit`.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    pub metric: Ident,
    pub args: Vec<Arg>,
    pub comparison: BinaryOp,
    pub value: Expr,
    /// `MiB`.
    pub unit: Option<Ident>,
}

/// `name(args) shares label`: a layer or a module.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub name: Ident,
    pub args: Vec<Arg>,
    /// The layer or call whose weights it has.
    pub shares: Option<Label>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Arg {
    pub name: Option<Ident>,
    pub value: Expr,
    pub span: Span,
}

/// The branches are the [`lines`] of the body.
#[derive(Clone, Debug)]
pub(crate) struct Branches {
    pub join: Ident,
    pub body: Block,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Aux {
    pub label: Option<Label>,
    pub args: Vec<Arg>,
    pub body: Block,
}

#[derive(Clone, Debug)]
pub(crate) struct Let {
    pub pattern: Pattern,
    pub value: Expr,
}

#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub name: Ident,
    pub columns: Vec<Ident>,
    /// The cells of each line.
    pub rows: Vec<Vec<Expr>>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub name: Ident,
    pub value: Expr,
}

#[derive(Clone, Debug)]
pub(crate) enum Pattern {
    Name(Ident),
    Tuple(Vec<Pattern>, Span),
}

impl Pattern {
    /// The names that it binds, in order.
    pub(crate) fn names(&self) -> Vec<&Ident> {
        match self {
            Pattern::Name(ident) => vec![ident],
            Pattern::Tuple(parts, _) => parts.iter().flat_map(Pattern::names).collect(),
        }
    }
}

/// `train name(model, other) { … }`
#[derive(Clone, Debug)]
pub(crate) struct Train {
    pub name: Ident,
    /// As written: none where the block has its model's name.
    pub models: Vec<Ident>,
    pub body: TrainBlock,
}

#[derive(Clone, Debug)]
pub(crate) struct TrainBlock {
    pub statements: Vec<TrainStatement>,
}

#[derive(Clone, Debug)]
pub(crate) struct TrainStatement {
    pub kind: TrainStatementKind,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum TrainStatementKind {
    /// `batch 128`, `freeze layer1, layer2`.
    Clause {
        name: Ident,
        values: Vec<Expr>,
    },
    /// `init kind value`: which weights, and how they begin.
    Init {
        kind: Option<Label>,
        value: Expr,
    },
    /// `lr_scale layer1, bias 0.1`
    LrScale {
        of: Vec<Label>,
        by: Expr,
    },
    Augment {
        input: Option<Ident>,
        changes: Vec<Change>,
    },
    /// `data name: f32[…]`, `labels name: class[…]`, `noise name: normal[…]`
    Source {
        kind: SourceKind,
        name: Ident,
        of: Ident,
        dims: Vec<Expr>,
    },
    /// `step model(repeat = 5) { … }`
    Step {
        models: Vec<Ident>,
        args: Vec<Arg>,
        body: TrainBlock,
    },
    Let(Let),
    Expect(Expect),
    /// Text that could not be parsed, with the block after it where there is one.
    Error(Option<TrainBlock>),
}

/// Where values of a training come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    Data,
    Labels,
    Noise,
}

impl SourceKind {
    pub(crate) fn word(self) -> &'static str {
        match self {
            SourceKind::Data => "data",
            SourceKind::Labels => "labels",
            SourceKind::Noise => "noise",
        }
    }
}

/// One of the augmentations of an input: `flip`, `pad 2`, `random_crop(28, 24)`.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub name: Ident,
    pub args: Vec<Arg>,
}

/// A label or a string: text with expressions in between.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub parts: Vec<TemplatePart>,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub(crate) enum TemplatePart {
    Text(String),
    Expr(Expr),
}

#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub kind: ExprKind,
    pub span: Span,
}

impl Expr {
    /// The expressions directly within it, but for the arguments of functions.
    pub(crate) fn parts(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Template(parts) | ExprKind::Label(Label { parts, .. }) => {
                parts.iter().filter_map(|p| if let TemplatePart::Expr(e) = p { Some(e) } else { None }).collect()
            }
            ExprKind::List(items) | ExprKind::Tuple(items) => items.iter().collect(),
            ExprKind::Range { start, end, .. } => vec![start, end],
            ExprKind::Unary(_, operand) | ExprKind::Field(operand, _) => vec![operand],
            ExprKind::Binary(_, _, left, right) => vec![left, right],
            ExprKind::Index(operand, index) => vec![operand, index],
            ExprKind::Slice { operand, start, end, .. } => {
                [Some(operand), start.as_ref(), end.as_ref()].into_iter().flatten().map(Box::as_ref).collect()
            }
            ExprKind::Comprehension { value, each } => {
                let of_clauses = each.iter().flat_map(|each| [&each.items].into_iter().chain(&each.condition));
                of_clauses.chain([value.as_ref()]).collect()
            }
            ExprKind::If { condition, then, otherwise } => vec![condition, then, otherwise],
            ExprKind::Function(..)
            | ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Bool(_)
            | ExprKind::Name(_)
            | ExprKind::In
            | ExprKind::Here
            | ExprKind::Error => vec![],
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum ExprKind {
    Int(i64),
    Float(f64),
    Bool(bool),
    /// A string, templates included.
    Template(Vec<TemplatePart>),
    Name(String),
    /// `in`: the value that enters the block.
    In,
    /// `here`: the value at hand.
    Here,
    /// What only a label can spell: `enc{i}`, `layer1.0`.
    Label(Label),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Range {
        start: Box<Expr>,
        end: Box<Expr>,
        inclusive: bool,
    },
    Unary(UnaryOp, Box<Expr>),
    /// Operator, its span, operands.
    Binary(BinaryOp, Span, Box<Expr>, Box<Expr>),
    If {
        condition: Box<Expr>,
        then: Box<Expr>,
        otherwise: Box<Expr>,
    },
    Field(Box<Expr>, Ident),
    Index(Box<Expr>, Box<Expr>),
    /// `operand[start..end]`, either end of which may be left out.
    Slice {
        operand: Box<Expr>,
        start: Option<Box<Expr>>,
        end: Option<Box<Expr>>,
        inclusive: bool,
    },
    /// `[value for pattern in items if condition]`
    Comprehension {
        value: Box<Expr>,
        each: Vec<Each>,
    },
    Function(Ident, Vec<Arg>),
    /// An expression that could not be parsed; it has been reported.
    Error,
}

/// `for pattern in items if condition`, within a list.
#[derive(Clone, Debug)]
pub(crate) struct Each {
    pub pattern: Pattern,
    pub items: Expr,
    pub condition: Option<Expr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnaryOp {
    Neg,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BinaryOp {
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// Whether a list holds a value.
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Pow,
}

impl BinaryOp {
    pub(crate) fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Or => "or",
            BinaryOp::And => "and",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::In => "in",
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Rem => "%",
            BinaryOp::Pow => "**",
        }
    }
}
