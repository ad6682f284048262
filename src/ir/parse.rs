//! Reads the IR text back into a graph: what `print` wrote, or what a test holds.
//!
//! Shapes are inferred anew and must be those of the text. Every weight is declared as its op asks
//! and thus has seeded values; who has other values sets them in the graph's store.

use std::collections::HashMap;

use pest::Parser;
use pest::iterators::{Pair, Pairs};

use super::print::phase_word;
use super::text::{parse_preprocess, unquoted};
use super::{AuxHead, Graph, NodeId, Phase};
use crate::diagnostic::{Location, SourceId, Span};
use crate::ops::attributes::AttributeReader;
use crate::ops::{Init, Op};
use crate::tensor::{Element, Rows, Shape};

#[derive(pest_derive::Parser)]
#[grammar = "../grammar/ir.pest"]
struct IrParser;

/// No op has so many attributes.
const MAX_FIELDS: usize = 64;
/// No op takes so many operands: what goes through lists of them may take its time.
const MAX_OPERANDS: usize = 4096;

/// Why a text is not a graph. Line and column count from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{column}: {message}")]
pub struct ParseError {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// The graph that an IR text describes.
///
/// # Errors
/// At the first line that is malformed, names something unknown, or does not fit its operands.
pub fn parse(text: &str) -> Result<Graph, ParseError> {
    let mut file = IrParser::parse(Rule::graph, text).map_err(syntax_error)?;
    let lines = file.next().expect("the start rule matched").into_inner();
    let mut builder = GraphReader { graph: Graph::new("", Phase::Infer), values: HashMap::new() };
    for line in lines {
        match line.as_rule() {
            Rule::header => builder.header(line)?,
            Rule::labels => builder.labels(line)?,
            Rule::definition => builder.definition(line)?,
            Rule::output => builder.output(line)?,
            Rule::update => builder.update(line)?,
            _ => {}
        }
    }
    Ok(builder.graph)
}

fn syntax_error(error: pest::error::Error<Rule>) -> ParseError {
    let (line, column) = match error.line_col {
        pest::error::LineColLocation::Pos(at) | pest::error::LineColLocation::Span(at, _) => at,
    };
    ParseError { line, column, message: error.variant.message().into_owned() }
}

/// An error at a piece of text.
fn at(pair: &Pair<'_, Rule>, message: impl Into<String>) -> ParseError {
    let (line, column) = pair.line_col();
    ParseError { line, column, message: message.into() }
}

struct GraphReader {
    graph: Graph,
    /// By the text's word, `%` included.
    values: HashMap<String, NodeId>,
}

impl GraphReader {
    fn header(&mut self, line: Pair<'_, Rule>) -> Result<(), ParseError> {
        let mut parts = line.clone().into_inner();
        self.graph.name = name_in(parts.next().expect("grammar"))?;
        let mut reader = fields(&mut parts)?;
        let phase: String = reader.take("phase", None).map_err(|e| at(&line, e))?;
        self.graph.phase = [Phase::Train, Phase::Infer]
            .into_iter()
            .find(|&p| phase_word(p) == phase)
            .ok_or_else(|| at(&line, format!("phase is train or infer, not {phase}")))?;
        self.graph.weights.seed = reader.take("seed", Some(0)).map_err(|e| at(&line, e))?;
        reader.finish().map_err(|e| at(&line, e))
    }

    fn labels(&mut self, line: Pair<'_, Rule>) -> Result<(), ParseError> {
        self.graph.labels = line.into_inner().map(unquote).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn definition(&mut self, line: Pair<'_, Rule>) -> Result<(), ParseError> {
        let mut parts = line.clone().into_inner().peekable();
        let value = parts.next().expect("grammar");
        let op = parts.next().expect("grammar");
        let (mut operands, mut parameters) = (vec![], vec![]);
        let mut apart = false;
        while let Some(read) = parts.next_if(|p| matches!(p.as_rule(), Rule::value | Rule::weight | Rule::semicolon)) {
            match read.as_rule() {
                Rule::semicolon => apart = true,
                Rule::value if !apart => operands.push(self.value(&read)?),
                _ => parameters.push(read),
            }
            if operands.len() + parameters.len() > MAX_OPERANDS {
                return Err(at(&op, format!("more than {MAX_OPERANDS} operands")));
            }
        }
        let mut attributes = vec![];
        while let Some(field) = parts.next_if(|p| p.as_rule() == Rule::field) {
            attributes.push(field);
        }
        let mut reader = reader_of(attributes)?;
        let shape = parts.next().expect("grammar");
        let location = parts.next().and_then(location);
        let name = label(&value)?;
        let id = if op.as_str() == "input" {
            let preprocess = parse_preprocess(&mut reader).map_err(|e| at(&line, e))?;
            let name = name.ok_or_else(|| at(&value, "an input needs a name"))?;
            if !(operands.is_empty() && parameters.is_empty()) {
                return Err(at(&op, "an input has no operands"));
            }
            self.graph.add_input(name, shape_of(&shape)?, preprocess, location)
        } else {
            let parsed = Op::parse(op.as_str(), &mut reader)
                .ok_or_else(|| at(&op, format!("no op is named {}", op.as_str())))?
                .map_err(|e| at(&op, e))?;
            let parameters = self.parameters(&line, &parsed, &operands, parameters)?;
            let id = self.graph.add(parsed, &operands, vec![], name, location).map_err(|e| at(&op, e.message))?;
            self.graph.set_parameters(id, &parameters);
            id
        };
        reader.finish().map_err(|e| at(&op, e))?;
        if self.graph.node(id).shape != shape_of(&shape)? {
            return Err(at(&shape, format!("the shape is {}", self.graph.node(id).shape)));
        }
        match self.values.insert(value.as_str().to_string(), id) {
            None => Ok(()),
            Some(_) => Err(at(&value, format!("{} is defined twice", value.as_str()))),
        }
    }

    /// What the op declares: weights under the names of the text, or values.
    fn parameters(
        &mut self,
        line: &Pair<'_, Rule>,
        op: &Op,
        operands: &[NodeId],
        names: Vec<Pair<'_, Rule>>,
    ) -> Result<Vec<NodeId>, ParseError> {
        let shapes = self.graph.shapes(operands);
        op.infer(&shapes).map_err(|e| at(line, e.message))?;
        let declared = op.weights(&shapes);
        if declared.len() != names.len() {
            return Err(at(line, format!("{} has {} weights, not {}", op.name(), declared.len(), names.len())));
        }
        let mut ids = vec![];
        for (decl, pair) in declared.into_iter().zip(names) {
            if pair.as_rule() == Rule::value {
                let value = self.value(&pair)?;
                let found = &self.graph.node(value).shape;
                if *found != decl.shape {
                    return Err(at(&pair, format!("the {} is {found}, not {}", decl.role, decl.shape)));
                }
                ids.push(value);
                continue;
            }
            let name = name_in(pair.clone())?;
            let store = &mut self.graph.weights;
            let id = match store.find(&name) {
                Some(id) if store.get(id).shape == decl.shape => id,
                Some(id) => {
                    return Err(at(&pair, format!("@{name} is {} elsewhere, not {}", store.get(id).shape, decl.shape)));
                }
                None => store.declare(&name, decl.shape, decl.init, decl.learnable).expect("the name is new"),
            };
            ids.push(self.graph.parameter(id));
        }
        Ok(ids)
    }

    fn output(&mut self, line: Pair<'_, Rule>) -> Result<(), ParseError> {
        let mut parts = line.into_inner();
        let name = unquote(parts.next().expect("grammar"))?;
        let node = self.value(&parts.next().expect("grammar"))?;
        let (mut aux, mut rows) = (None, None);
        for part in parts {
            match part.as_rule() {
                Rule::aux => aux = Some(aux_head(part)?),
                _ => rows = Some(rows_of(part)?),
            }
        }
        self.graph.output(name, node, aux);
        if let Some(rows) = rows {
            self.graph.set_rows(self.graph.outputs().len() - 1, rows);
        }
        Ok(())
    }

    /// A weight that nothing reads, such as an average that is only kept, is declared by its update.
    fn update(&mut self, line: Pair<'_, Rule>) -> Result<(), ParseError> {
        let mut parts = line.into_inner();
        let weight = parts.next().expect("grammar");
        let name = name_in(weight.clone())?;
        let node = self.value(&parts.next().expect("grammar"))?;
        let shape = self.graph.node(node).shape.clone();
        let id = match self.graph.weights.find(&name) {
            Some(id) if self.graph.weights.get(id).shape == shape => id,
            Some(id) => {
                let found = &self.graph.weights.get(id).shape;
                return Err(at(&weight, format!("@{name} is {found} and cannot become {shape}")));
            }
            None => {
                let declared = self.graph.weights.declare(&name, shape, Init::Constant(0.0), false);
                declared.expect("the name is new")
            }
        };
        self.graph.update(id, node);
        Ok(())
    }

    fn value(&self, pair: &Pair<'_, Rule>) -> Result<NodeId, ParseError> {
        let known = self.values.get(pair.as_str()).copied();
        known.ok_or_else(|| at(pair, format!("{} is not defined above", pair.as_str())))
    }
}

fn aux_head(pair: Pair<'_, Rule>) -> Result<AuxHead, ParseError> {
    let mut parts = pair.clone().into_inner();
    let label = unquote(parts.next().expect("grammar"))?;
    let mut reader = fields(&mut parts)?;
    let weight = reader.take("weight", None).map_err(|e| at(&pair, e))?;
    reader.finish().map_err(|e| at(&pair, e))?;
    Ok(AuxHead { label, weight })
}

fn rows_of(pair: Pair<'_, Rule>) -> Result<Rows, ParseError> {
    let mut parts = pair.clone().into_inner();
    let counted_by = unquote(parts.next().expect("grammar"))?;
    let mut reader = fields(&mut parts)?;
    let mut take = |key| reader.take(key, None).map_err(|e| at(&pair, e));
    let rows = Rows { axis: take("axis")?, each: take("each")?, counted_by };
    reader.finish().map_err(|e| at(&pair, e))?;
    Ok(rows)
}

/// The label of a `%value`; numbers are no labels.
fn label(value: &Pair<'_, Rule>) -> Result<Option<String>, ParseError> {
    let inner = value.clone().into_inner().next().expect("grammar");
    if inner.as_rule() == Rule::number { Ok(None) } else { unquote(inner).map(Some) }
}

/// The name in a `@weight`.
fn name_in(pair: Pair<'_, Rule>) -> Result<String, ParseError> {
    unquote(pair.into_inner().next().expect("grammar"))
}

fn unquote(pair: Pair<'_, Rule>) -> Result<String, ParseError> {
    unquoted(pair.as_str()).ok_or_else(|| at(&pair, "wrong escape in a quoted name"))
}

fn fields(pairs: &mut Pairs<'_, Rule>) -> Result<AttributeReader, ParseError> {
    reader_of(pairs.filter(|p| p.as_rule() == Rule::field).collect())
}

fn reader_of(fields: Vec<Pair<'_, Rule>>) -> Result<AttributeReader, ParseError> {
    let mut known: Vec<(String, String)> = vec![];
    for field in fields {
        let (key, text) = field.as_str().split_once('=').expect("grammar");
        if known.len() == MAX_FIELDS {
            return Err(at(&field, format!("more than {MAX_FIELDS} attributes")));
        }
        if known.iter().any(|(k, _)| k == key) {
            return Err(at(&field, format!("attribute {key} is given twice")));
        }
        known.push((key.to_string(), text.to_string()));
    }
    Ok(AttributeReader::new(known))
}

fn shape_of(pair: &Pair<'_, Rule>) -> Result<Shape, ParseError> {
    let mut parts = pair.clone().into_inner();
    let name = parts.next().expect("grammar");
    let element =
        Element::named(name.as_str()).ok_or_else(|| at(&name, format!("no element is called {}", name.as_str())))?;
    let sizes = parts.map(|n| n.as_str().parse::<usize>().map_err(|_| at(&n, "the size overflows")));
    Ok(Shape::of(element, sizes.collect::<Result<Vec<_>, _>>()?))
}

/// `// file:line`. Other comments are no locations.
fn location(pair: Pair<'_, Rule>) -> Option<Location> {
    let (file, line) = pair.into_inner().next()?.as_str().trim().rsplit_once(':')?;
    let line = line.parse().ok()?;
    // The text has no columns; the span names no source.
    Some(Location { file: file.into(), line, column: 1, span: Span::new(SourceId(0), 0, 0) })
}
