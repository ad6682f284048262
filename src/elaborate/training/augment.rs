//! `augment`: what is done to samples, and whether pictures have the input's size at its end.

use super::{Elaborator, Frame, words};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::ir::preprocess::{Preprocess, Resize};
use crate::ir::{Kind, NodeId};
use crate::recipe::{Augmentation, Source};
use crate::syntax::ast::*;

/// Pictures may be no larger than this.
const MAX_SIDE: usize = 1 << 16;

/// What is known of the size of pictures on their way: both sides, or that both have so many pixels or more.
#[derive(Clone, Copy)]
enum Size {
    Exact([usize; 2]),
    AtLeast(usize),
}

impl Size {
    /// Before the first change: after the steps of the preprocessing that are not left out.
    fn before(changes: &[Augmentation], steps: Option<&Preprocess>, input: [usize; 2]) -> Size {
        let is_part =
            |c: &&Augmentation| matches!(c, Augmentation::RandomCrop(_) | Augmentation::RandomResizedCrop { .. });
        let (resize, crop) = steps.map_or((None, None), |steps| (steps.resize, steps.center_crop));
        match (changes.iter().find(is_part), resize, crop) {
            (Some(Augmentation::RandomResizedCrop { .. }), ..) | (Some(_), None, Some(_)) => Size::AtLeast(1),
            (Some(_), Some(Resize::ShorterSide(side)), _) => Size::AtLeast(side),
            (Some(_), Some(Resize::Exact(size)), _) => Size::Exact(size),
            _ => Size::Exact(input),
        }
    }

    /// Whether every picture has such a part. Of pictures that nothing resizes, the data say it.
    fn holds(self, part: [usize; 2]) -> bool {
        match self {
            Size::Exact(size) => part[0] <= size[0] && part[1] <= size[1],
            Size::AtLeast(1) => true,
            Size::AtLeast(side) => part[0].min(part[1]) <= side,
        }
    }
}

impl<'a> Elaborator<'a> {
    pub(super) fn augmentations(&mut self, frame: &Frame, body: &'a TrainBlock) -> Vec<(NodeId, Vec<Augmentation>)> {
        let mut all: Vec<(NodeId, Vec<Augmentation>)> = vec![];
        for statement in &body.statements {
            let TrainStatementKind::Augment { input, changes } = &statement.kind else { continue };
            let word = Span { end: statement.span.start + "augment".len() as u32, ..statement.span };
            if !self.step(statement.span, self.graph.inputs().len() / 16 + all.len() / 16) {
                break;
            }
            let Some(node) = self.augmented_input(input.as_ref(), word) else { continue };
            if all.iter().any(|(other, _)| *other == node) {
                let diagnostic = Diagnostic::error("duplicate-clause", "this input is augmented twice");
                self.report.add(diagnostic.primary(word, "again").help("one `augment` says all changes of an input"));
                continue;
            }
            let made = self.changes(frame, node, changes, word);
            all.push((node, made));
        }
        all
    }

    /// The data that is meant.
    fn augmented_input(&mut self, name: Option<&Ident>, word: Span) -> Option<NodeId> {
        let state = self.training.as_ref().expect("a block is evaluated");
        let is_data = |id: &NodeId| state.sources.get(id).is_none_or(|(source, _)| *source == Source::Data);
        let data: Vec<NodeId> = self.graph.inputs().iter().copied().filter(is_data).collect();
        let node_name = |id: &NodeId| self.graph.node(*id).name.clone().unwrap_or_default();
        let names: Vec<String> = data.iter().map(node_name).collect();
        let pictures: Vec<NodeId> = data.iter().copied().filter(|&d| self.graph.node(d).shape.rank() == 4).collect();
        let (found, span) = match name {
            Some(Ident { name, span }) => (names.iter().position(|n| n == name).map(|i| data[i]), *span),
            None => (Some(pictures.as_slice()).filter(|p| p.len() == 1).map(|p| p[0]), word),
        };
        let Some(node) = found else {
            if self.report.has_errors() {
                return None;
            }
            let message = match name {
                Some(Ident { name, .. }) => format!("no data is named `{name}`"),
                None => format!("there are {} inputs of pictures", pictures.len()),
            };
            let diagnostic = Diagnostic::error("unknown-input", message).primary(span, "augment what?");
            let similar = name.and_then(|n| nearest(&n.name, names.iter().map(String::as_str)));
            self.report.add(match similar {
                Some(similar) => diagnostic.help(format!("did you mean `{similar}`?")),
                None => diagnostic.help(format!("the data: {}", names.join(", "))),
            });
            return None;
        };
        if self.graph.node(node).shape.rank() != 4 {
            let message = format!("only pictures are augmented, this input is {}", self.graph.node(node).shape);
            self.report.add(Diagnostic::error("no-image", message).primary(span, "no picture"));
            return None;
        }
        Some(node)
    }

    fn changes(&mut self, frame: &Frame, input: NodeId, changes: &'a [Change], word: Span) -> Vec<Augmentation> {
        let shape = self.graph.node(input).shape.clone();
        let (channels, wanted) = (shape[1], [shape[2], shape[3]]);
        let before = self.report.count();
        let (made, spans): (Vec<Augmentation>, Vec<Span>) =
            changes.iter().filter_map(|Change { name, args }| self.change(frame, name, args)).unzip();
        let steps = match &self.graph.node(input).kind {
            Kind::Input(steps) => steps.as_ref(),
            _ => None,
        };
        let mut size = Size::before(&made, steps, wanted);
        for (change, span) in made.iter().zip(spans) {
            self.check_change(change, &mut size, span, channels);
        }
        let is_right = self.report.count() == before;
        let ends = match size {
            Size::Exact(size) if size == wanted => return made,
            Size::Exact([height, width]) => format!("{height} × {width}"),
            Size::AtLeast(side) => format!("{side} or more a side"),
        };
        if is_right {
            let [height, width] = wanted;
            let message = format!("augmented pictures have {ends} pixels, the input takes {height} × {width}");
            let crop = if height == width { height.to_string() } else { format!("(({height}, {width}))") };
            let diagnostic = Diagnostic::error("augmented-size", message).primary(word, "does not fit the input");
            self.report.add(diagnostic.help(format!("end with `random_crop {crop}`")));
        }
        made
    }

    fn change(&mut self, frame: &Frame, name: &'a Ident, args: &'a [Arg]) -> Option<(Augmentation, Span)> {
        let Some(word) = words::AUGMENTATIONS.find(&name.name) else {
            self.no_such(&words::AUGMENTATIONS, &name.name, name.span);
            return None;
        };
        let args = &self.spelt_out(frame, word, args)[..];
        if !args.iter().all(|a| self.known(frame, &a.value)) {
            return None;
        }
        let called = self.arguments_of(frame, word, args, name.span)?;
        let made = words::augmentation(word.name, &called.args);
        self.made(&called, made).map(|change| (change, called.span))
    }

    /// Follows the size of pictures, and reports a change that they do not take.
    fn check_change(&mut self, change: &Augmentation, size: &mut Size, span: Span, channels: usize) {
        let mut wrong = |message: String, help: &str| {
            let diagnostic = Diagnostic::error("wrong-augmentation", message).primary(span, "");
            self.report.add(diagnostic.help(help));
        };
        match *change {
            Augmentation::RandomResizedCrop { size: part, .. } if part[0].max(part[1]) < MAX_SIDE => {
                *size = Size::Exact(part);
            }
            Augmentation::Pad(pixels) if pixels < MAX_SIDE => {
                *size = match *size {
                    Size::Exact([height, width]) => Size::Exact([height + 2 * pixels, width + 2 * pixels]),
                    Size::AtLeast(side) => Size::AtLeast(side + 2 * pixels),
                };
            }
            Augmentation::RandomCrop(part) => {
                if !size.holds(part) {
                    let have = match size {
                        Size::Exact([height, width]) => format!("{height} × {width}"),
                        Size::AtLeast(side) => side.to_string(),
                    };
                    let message = format!("a crop of {} × {} from pictures of {have} pixels", part[0], part[1]);
                    wrong(message, "pad them, or resize them to more");
                }
                *size = Size::Exact(part);
            }
            Augmentation::Cutout(side) if !size.holds([side; 2]) => {
                wrong(format!("a square of {side} pixels a side covers the whole picture"), "make it smaller");
            }
            Augmentation::RandomResizedCrop { .. } | Augmentation::Pad(_) => {
                wrong(format!("pictures have fewer than {MAX_SIDE} pixels a side"), "make them smaller");
            }
            Augmentation::Saturation(_) | Augmentation::Lighting(_) if channels != 3 => {
                let message = format!("only pictures in colour have this, the input has {channels} channels");
                wrong(message, "leave it out, or use `brightness` and `contrast`");
            }
            _ => {}
        }
    }
}
