//! What a model says of pictures and classes: `preprocess` and `labels`.

use super::check::COLORS;
use super::expression::some_of;
use super::program::folder_of;
use super::value::Val;
use super::{Elaborator, Frame};
use crate::diagnostic::{Diagnostic, Span};
use crate::ir::NodeId;
use crate::ir::preprocess::{Color, Preprocess, Resize};
use crate::syntax::ast::{Expr, ExprKind, Ident, Setting};

impl Elaborator<'_> {
    pub(super) fn preprocess(&mut self, frame: &Frame, input: Option<&Ident>, settings: &[Setting], span: Span) {
        let node = match input {
            _ if self.is_called() => match self.called_input(input) {
                // What another model computes is no picture.
                Some(node) if self.graph.node(node).op().is_some() => return,
                node => node,
            },
            Some(name) => {
                self.graph.inputs().iter().copied().find(|&n| self.graph.node(n).name.as_deref() == Some(&name.name))
            }
            None => self.graph.inputs().last().copied(),
        };
        let Some(node) = node else {
            let (message, span) = match input {
                Some(name) => (format!("no input is named `{}` so far", name.name), name.span),
                None => ("there is no input so far".to_string(), span),
            };
            let is_told = match input {
                Some(name) => self.refused_inputs.contains(&name.name),
                None => self.report.has_errors(),
            };
            if !is_told {
                let diagnostic = Diagnostic::error("unknown-input", message).primary(span, "preprocess what?");
                let name = |&id: &NodeId| self.graph.node(id).name.clone();
                let known: Vec<String> = self.graph.inputs().iter().filter_map(name).collect();
                self.report.add(match known.is_empty() {
                    true => diagnostic,
                    false => diagnostic.help(format!("there is {}", some_of(&known))),
                });
            }
            return;
        };
        let first = self.preprocess_spans.insert(node, span);
        if self.is_called() && first.is_some() {
            return;
        }
        if let Some(first) = first {
            let name = self.graph.node(node).name.as_deref().unwrap_or_default();
            let message = format!("the input `{name}` is preprocessed twice");
            let diagnostic = Diagnostic::error("duplicate-preprocess", message).primary(span, "again");
            return self.error(
                frame,
                diagnostic.secondary(first, "first").help("one `preprocess` says all steps of an input"),
            );
        }
        let Some([_, channels, height, width]) = self.graph.node(node).shape.nchw() else {
            let message = format!("only images have preprocessing, this input is {}", self.graph.node(node).shape);
            return self.error(frame, Diagnostic::error("no-image", message).primary(span, "no image"));
        };
        // Steps are those of the size that the text states. Pictures for an input of another size end in that.
        let other = self.stated_sizes.get(&node).copied().map(|stated| (stated, [height, width]));
        let [height, width] = other.map_or([height, width], |(stated, _)| stated);
        let color = if channels == 1 { Color::Gray } else { Color::Rgb };
        let mut steps = Preprocess { color, ..Preprocess::default() };
        for setting in settings {
            let before = steps.clone();
            if let Err(message) = self.setting(frame, &mut steps, setting, [channels, height, width]) {
                steps = before;
                let diagnostic = Diagnostic::error("wrong-step", message).primary(setting.value.span, "");
                self.error(frame, diagnostic);
            }
        }
        if let Some((_, size)) = other {
            steps.resize = Some(Resize::Exact(size));
            steps.center_crop = None;
        }
        self.padded_pictures(&steps, span);
        self.graph.set_preprocess(node, Some(steps));
    }

    /// Warns of pictures that are made smaller than what is then cut of them.
    fn padded_pictures(&mut self, steps: &Preprocess, span: Span) {
        let (Some(resize), Some([height, width])) = (&steps.resize, steps.center_crop) else { return };
        let (made, wanted) = match *resize {
            Resize::ShorterSide(side) if side < height.min(width) => (side.to_string(), height.min(width)),
            Resize::Exact([h, w]) if h < height || w < width => (format!("{h} × {w}"), height.max(width)),
            _ => return,
        };
        let message = format!("pictures of {made} pixels are smaller than the crop of {height} × {width}");
        let diagnostic = Diagnostic::warning("padded-pictures", message).primary(span, "the rest becomes black");
        self.report
            .add(diagnostic.help(format!("`resize {wanted}` fills the crop, or more for a part of the picture")));
    }

    /// One step of the preprocessing of an image of `[channels, height, width]`.
    fn setting(
        &mut self,
        frame: &Frame,
        steps: &mut Preprocess,
        setting: &Setting,
        image: [usize; 3],
    ) -> Result<(), String> {
        let name = setting.name.name.as_str();
        match (name, &setting.value.kind) {
            ("color", ExprKind::Name(word)) => set_color(steps, word, image[0])?,
            _ => match self.eval(frame, &setting.value) {
                Val::Unknown => return Ok(()),
                value => set_step(steps, name, &value, image[0])?,
            },
        }
        // Steps before this one are right, or have been left out.
        steps.check(image).or_else(|wrong| if wrong.step == name { Err(wrong.message) } else { Ok(()) })
    }

    pub(super) fn class_labels(&mut self, frame: &Frame, names: &Expr) {
        if let Some(first) = self.class_labels_span.replace(names.span) {
            let diagnostic = Diagnostic::error("duplicate-labels", "the classes are named twice");
            return self.error(frame, diagnostic.primary(names.span, "again").secondary(first, "first"));
        }
        let value = self.eval(frame, names);
        let labels = match &value {
            Val::Unknown => return,
            Val::Str(path) => match self.read_labels(frame, path) {
                Ok(text) => text.lines().map(str::to_string).collect(),
                Err(message) => {
                    let diagnostic = Diagnostic::error("unreadable-file", message).primary(names.span, "class names");
                    return self.error(frame, diagnostic);
                }
            },
            other => {
                let text = |v: &Val| if let Val::Str(s) = v { Some(s.to_string()) } else { None };
                match other.parts().and_then(|p| p.iter().map(text).collect::<Option<Vec<_>>>()) {
                    Some(labels) => labels,
                    None => {
                        let message = "class names are a list of strings, or the name of a file with one a line";
                        let diagnostic =
                            Diagnostic::error("wrong-type", message).primary(names.span, other.type_name());
                        return self.error(frame, diagnostic);
                    }
                }
            }
        };
        self.graph.labels = labels;
    }

    fn read_labels(&self, frame: &Frame, path: &str) -> Result<String, String> {
        let user = &self.sources.get(self.program.file(frame.file).source).name;
        let path = folder_of(user).join(path);
        (self.options.loader)(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))
    }
}

/// `color bgr`, of an input with so many channels; a word that is no colour has been reported.
fn set_color(steps: &mut Preprocess, word: &str, channels: usize) -> Result<(), String> {
    match COLORS.iter().position(|c| *c == word) {
        // Where nothing is said, this also stands for channels that are no colours.
        Some(0) if channels != 3 => Err(format!("`rgb` images have 3 channels, the input has {channels}")),
        Some(color) => {
            steps.color = [Color::Rgb, Color::Bgr, Color::Gray][color];
            Ok(())
        }
        None => Ok(()),
    }
}

/// A step by its name; one that does not exist has been reported.
fn set_step(steps: &mut Preprocess, name: &str, value: &Val, channels: usize) -> Result<(), String> {
    match name {
        "resize" => {
            steps.resize = Some(match sizes(name, value)?.as_slice() {
                [h, w] => Resize::Exact([*h, *w]),
                side => Resize::ShorterSide(side[0]),
            });
        }
        "center_crop" => {
            let sizes = sizes(name, value)?;
            steps.center_crop = Some([sizes[0], *sizes.last().unwrap_or(&sizes[0])]);
        }
        "scale" => match value.number() {
            Some(factor) => steps.scale = Some(factor as f32),
            None => return Err(format!("`scale` takes a number, not {value}")),
        },
        "mean" => steps.mean = per_channel(name, value, channels)?,
        "std" => steps.std = per_channel(name, value, channels)?,
        "invert" => match value {
            Val::Bool(invert) => steps.invert = *invert,
            other => return Err(format!("`invert` is true or false, not {other}")),
        },
        "color" => return Err(format!("`color` is one of {}, not {value}", COLORS.join(", "))),
        _ => {}
    }
    Ok(())
}

fn parts(value: &Val) -> &[Val] {
    value.parts().unwrap_or(std::slice::from_ref(value))
}

/// One size, or height and width.
fn sizes(name: &str, value: &Val) -> Result<Vec<usize>, String> {
    let size = |v: &Val| v.integer().and_then(|v| usize::try_from(v).ok());
    let sizes: Option<Vec<usize>> = parts(value).iter().map(size).collect();
    let fitting = sizes.filter(|s| s.len() == 1 || s.len() == 2);
    fitting.ok_or_else(|| format!("`{name}` takes a size or (height, width), not {value}"))
}

/// One number for each channel, or one for all.
fn per_channel(name: &str, value: &Val, channels: usize) -> Result<Vec<f32>, String> {
    if let Some(number) = value.number() {
        return Ok(vec![number as f32; channels]);
    }
    let numbers: Option<Vec<f32>> = parts(value).iter().map(|v| v.number().map(|v| v as f32)).collect();
    let numbers = numbers.filter(|numbers| !numbers.is_empty());
    numbers.ok_or_else(|| format!("`{name}` takes one number a channel, not {value}"))
}
