//! Calls: a layer becomes a node, a module is evaluated in a frame of its own.

use super::check::pad_in_numbers;
use super::join::Operand;
use super::program::{Callee, DefinitionId};
use super::value::Val;
use super::{Calls, Elaborator, Flow, Frame, MAX_NODES, Origin, Shares, Sharing, Unnamed};
use crate::diagnostic::{Diagnostic, Span, nearest};
use crate::ir::NodeId;
use crate::ops::form::Form;
use crate::ops::layer::{Args, Arity, Layer, LayerError, Param, ParamType, Preset, Value, with_a_number};
use crate::ops::{Op, Reshape, ShapeError, WeightDecl};
use crate::syntax::ast::{Arg, BinaryOp, Call, Definition, Expr, ExprKind, Ident, Label};
use crate::tensor::Shape;
use crate::weights::WeightId;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;

/// Sizes and counts may be no larger than this.
const MAX_SIZE: i64 = i32::MAX as i64;
/// Layers between an input and a convolution that leave it as it is, a scale or a cast, that are looked through.
const MOST_BEFORE_A_CONV: usize = 4;

/// A call of a layer whose arguments are known.
struct LayerCall<'c> {
    layer: &'static Layer,
    call: &'c Call,
    args: Args,
    /// The text of each parameter that was given.
    given: Vec<(&'static str, Span)>,
    /// The values that a join takes besides the flow.
    operands: Vec<Operand>,
    /// Where the text names them.
    labels: Vec<Span>,
}

impl Elaborator<'_> {
    pub(super) fn call(&mut self, frame: &mut Frame, call: &Call, labelled: bool, flow: Flow) -> Flow {
        let name = &call.name.name;
        let callee = self.program.callee(frame.file, name).or_else(|| {
            // What could not be parsed may have defined it: a guess would be blamed for what it does not take.
            let similar =
                self.program.similar_callee(frame.file, name).filter(|_| !self.report.lost_words.contains(name))?;
            self.program.callee(frame.file, &similar)
        });
        match callee {
            Some(callee) => {
                let outer = frame.shares.clone();
                let named = call.shares.as_ref().and_then(|label| self.shares(frame, label, labelled));
                let names_others = named.is_some();
                frame.shares = named.or(outer.clone());
                let holders = self.sharing.len() + self.unnamed.len();
                let result = match callee {
                    Callee::Module(id) => self.call_module(frame, id, call, flow),
                    Callee::Layer(layer) => self.call_layer(frame, layer, call, labelled, flow),
                };
                let shares_nothing = self.sharing.len() + self.unnamed.len() == holders && result != Flow::Unknown;
                if let Some(label) = call.shares.as_ref().filter(|_| names_others && shares_nothing) {
                    let message = format!("`{}` has no weights that it could share", call.name.name);
                    let diagnostic = Diagnostic::error("shared-weights", message);
                    self.error(frame, diagnostic.primary(label.span, "shares these").help("leave `shares` out"));
                }
                frame.shares = outer;
                result
            }
            None => {
                self.lacks_labels = true;
                self.report.unknown(call.name.span);
                Flow::Unknown
            }
        }
    }

    /// Whose weights a call has that says so; `None` behind a mistake.
    ///
    /// In a loop it may be the call's own label: the first of the calls has the weights that the others share.
    fn shares(&mut self, frame: &Frame, label: &Label, labelled: bool) -> Option<Rc<Shares>> {
        if !labelled {
            let message = "a call that shares weights needs a label of its own";
            let diagnostic = Diagnostic::error("missing-label", message).primary(label.span, "shares these");
            self.error(frame, diagnostic.help("write `name:` before the call: its values are told apart by it"));
            return None;
        }
        let name = self.label_text(frame, label)?;
        // Its own label is the innermost scope.
        let around = &frame.scopes[..frame.scopes.len() - 1];
        let own = frame.path();
        match self.labels.full_name(&name, around, frame.base.min(around.len()), frame.id) {
            Some(other) if other == own && frame.in_loop => None,
            Some(other) if other == own => {
                let message = format!("`{name}` shares its own weights");
                let diagnostic = Diagnostic::error("shared-weights", message).primary(label.span, "this very call");
                self.error(frame, diagnostic.help("name a layer or call before it"));
                None
            }
            Some(other) => Some(Rc::new(Shares { own, other, span: label.span })),
            None => {
                self.label_value(frame, &name, label.span);
                None
            }
        }
    }

    // ---- Modules -----------------------------------------------------------------------------

    fn call_module(&mut self, frame: &mut Frame, id: DefinitionId, call: &Call, flow: Flow) -> Flow {
        let program = self.program;
        let definition = program.definition(id);
        if frame.active.contains(&id) && self.report.has("recursion") {
            // Nothing ends it, which `check` has reported.
            self.report.unknown(call.span);
            return Flow::Unknown;
        }
        let mut inner = self.new_frame(id.file, Some(frame));
        Rc::make_mut(&mut inner.calls).push((call.span, definition.name.name.clone()));
        inner.active.push(id);
        // What defaults read of the value that the module works on.
        (inner.input, inner.here) = (flow, flow);
        self.bind_params(frame, &mut inner, definition, &call.args);
        self.block(&mut inner, &definition.body, flow)
    }

    /// Binds a module's parameters: arguments in the caller's frame, defaults in its own.
    fn bind_params(&mut self, caller: &Frame, inner: &mut Frame, definition: &Definition, args: &[Arg]) {
        let names: Vec<&str> = definition.params.iter().map(|p| p.name.name.as_str()).collect();
        let slots = assign(args, &names);
        for (param, slot) in definition.params.iter().zip(slots) {
            let value = match (slot, &param.default) {
                (Some(arg), _) => self.eval(caller, &arg.value),
                (None, Some(default)) => self.eval(inner, default),
                (None, None) => {
                    self.report.unknown(definition.name.span);
                    Val::Unknown
                }
            };
            inner.variables.bind(&param.name.name, value);
        }
    }

    // ---- Layers ------------------------------------------------------------------------------

    fn call_layer(
        &mut self,
        frame: &mut Frame,
        layer: &'static Layer,
        call: &Call,
        labelled: bool,
        flow: Flow,
    ) -> Flow {
        let layer_call = self.arguments(frame, layer, call, flow);
        let input = match flow {
            Flow::Node(_) => flow,
            Flow::Unknown => Flow::Unknown,
            Flow::Nothing => {
                let message = format!("`{}` has nothing to work on", call.name.name);
                let diagnostic = Diagnostic::error("no-input", message).primary(call.name.span, "no value comes here");
                self.error(frame, diagnostic.help("declare an `input` before the first layer"));
                Flow::Unknown
            }
        };
        let Some(layer_call) = layer_call else {
            return Flow::Unknown;
        };
        let mut layer_call = layer_call;
        let form = match input {
            Flow::Node(input) => match layer.form(&layer_call.args, &self.graph.node(input).shape) {
                Ok(form) => form,
                Err(error) => {
                    let retry = self.likely_op(&layer_call, &error, input);
                    self.shape_error(frame, &layer_call, error, input);
                    return retry.map_or(Flow::Unknown, |shape| self.placeholder(shape));
                }
            },
            _ => None,
        };
        let mut ops = vec![];
        // Without a form, a stage that changes nothing.
        for stage in form.as_ref().map_or(vec![&[][..]], |form| form.stages.iter().map(|s| &s.set[..]).collect()) {
            stage.iter().for_each(|(name, value)| layer_call.args.set(name, value.clone()));
            match (layer.build)(&layer_call.args) {
                Ok(op) => ops.push(op),
                Err(error) => {
                    self.layer_error(frame, &layer_call, error);
                    return Flow::Unknown;
                }
            }
        }
        let op = ops[0].clone();
        if let Some((param, message)) = op.caution() {
            let given = layer_call.given.iter().find(|(name, _)| *name == param);
            let span = given.map_or(call.name.span, |(_, span)| *span);
            let diagnostic = Diagnostic::warning("doubtful-argument", message).primary(span, "is this meant?");
            self.report.add(super::with_calls(diagnostic, &frame.calls));
        }
        self.doubt_order(frame, &layer_call, input);
        if layer.arity.takes_labels() {
            let flow = (!places_flow(frame, call)).then_some(Operand { flow: input, span: None });
            if flow.is_some() && layer.arity != Arity::Operands {
                self.joined_twice(frame, &layer_call, input);
            }
            let operands: Vec<Operand> = flow.into_iter().chain(layer_call.operands).collect();
            return match layer.arity {
                Arity::Operands => self.one_of_values(frame, op, &operands, call.span, labelled),
                _ => self.join_values(frame, op, layer, &operands, call.name.span),
            };
        }
        let Flow::Node(input) = input else {
            return Flow::Unknown;
        };
        let operands: &[NodeId] = if layer.arity == Arity::Source { &[] } else { &[input] };
        let result = match &form {
            None => self.add_node(frame, op, operands, call.span, labelled),
            Some(form) => self.in_form(frame, &ops, form, input, call.span, labelled),
        };
        match result {
            Ok(node) => Flow::Node(node),
            Err(error) => {
                let retry = self.likely_op(&layer_call, &error, input);
                self.shape_error(frame, &layer_call, error, input);
                retry.map_or(Flow::Unknown, |shape| self.placeholder(shape))
            }
        }
    }

    /// Warns of a convolution whose first three arguments are in PyTorch's order: channels in, channels out, kernel.
    fn doubt_order(&mut self, frame: &Frame, call: &LayerCall, input: Flow) {
        /// Kernels that large are rare, and channels that few.
        const LARGE_KERNEL: i64 = 8;
        let Flow::Node(input) = input else { return };
        let sizes: Vec<i64> = call
            .call
            .args
            .iter()
            .take_while(|arg| arg.name.is_none())
            .filter_map(|arg| if let ExprKind::Int(size) = arg.value.kind { Some(size) } else { None })
            .collect();
        let &[channels, kernel, stride, ..] = sizes.as_slice() else { return };
        let is_conv = call.layer.params.iter().map(|p| p.name).take(3).eq(["channels", "kernel", "stride"]);
        let comes_in = self.graph.node(input).shape.dims().get(1).map(|&size| size as i64);
        if !is_conv || comes_in != Some(channels) || kernel < LARGE_KERNEL || stride >= LARGE_KERNEL {
            return;
        }
        let name = call.layer.name;
        let message =
            format!("this `{name}` gives {channels} channels, with a kernel of {kernel} and a stride of {stride}");
        let diagnostic = Diagnostic::warning("doubtful-argument", message).primary(call.call.span, "is this meant?");
        let help = format!("PyTorch's order is (in, out, kernel): here it is `{name}({kernel}, {stride})`");
        self.report.add(super::with_calls(diagnostic.help(help), &frame.calls));
    }

    /// Warns of a label that names the value at hand, which a join of several values has anyway.
    fn joined_twice(&mut self, frame: &Frame, call: &LayerCall, input: Flow) {
        let is_flow = |(operand, _): &(&Operand, &Span)| matches!(operand.flow, Flow::Node(_)) && operand.flow == input;
        let named: Vec<Span> = call.operands.iter().zip(&call.labels).filter(is_flow).map(|(_, &span)| span).collect();
        let &[span] = named.as_slice() else { return };
        if call.operands.len() < 2 {
            return;
        }
        let name = call.layer.name;
        let message = format!("`{name}` begins with the value at hand, and names it once more");
        let diagnostic = Diagnostic::warning("joined-twice", message).primary(span, "the value at hand");
        let diagnostic = diagnostic.help(format!("leave it out, or say where it stands: `{name}(other, here)`"));
        self.report.add(super::with_calls(diagnostic.help("if twice is meant, write `here` for both"), &frame.calls));
    }

    /// Adds operations on a value that is taken for other shapes, and gives the result its axes back.
    fn in_form(
        &mut self,
        frame: &Frame,
        ops: &[Op],
        form: &Form,
        value: NodeId,
        span: Span,
        labelled: bool,
    ) -> Result<NodeId, ShapeError> {
        let of_value = self.graph.node(value).shape.clone();
        let mut node = value;
        for (stage, op) in form.stages.iter().zip(ops) {
            let shape = stage.before.sizes(&of_value, &self.graph.node(node).shape);
            let taken = self.add_node(frame, Reshape { shape }.into(), &[node], span, false)?;
            node = self.add_node(frame, op.clone(), &[taken], span, labelled)?;
        }
        let shape = form.after(&of_value, &self.graph.node(node).shape);
        self.add_node(frame, Reshape { shape }.into(), &[node], span, false)
    }

    /// The arguments of a layer's call; `None` where one of them is unknown.
    fn arguments<'c>(
        &mut self,
        frame: &Frame,
        layer: &'static Layer,
        call: &'c Call,
        flow: Flow,
    ) -> Option<LayerCall<'c>> {
        let mut result =
            LayerCall { layer, call, args: layer.defaults(), given: vec![], operands: vec![], labels: vec![] };
        let (by_place, named): (Vec<&Arg>, Vec<&Arg>) =
            call.args.iter().partition(|a| layer.arity.takes_labels() && a.name.is_none());
        let mut args: Vec<Arg> = vec![];
        for arg in by_place {
            match self.operands(frame, layer, &arg.value) {
                Some(operands) => {
                    result.labels.resize(result.labels.len() + operands.len(), arg.value.span);
                    result.operands.extend(operands);
                }
                None => args.push(arg.clone()),
            }
        }
        let names: Vec<&str> = layer.params.iter().map(|p| p.name).collect();
        args.extend(named.into_iter().cloned());
        let mut complete = true;
        let is_open = |a: &Arg| a.name.is_none() && self.is_open(frame, &a.value);
        // `check` has left it to this: what stands in a place may be a label or a number.
        let unchecked = layer.arity.takes_labels() && call.args.iter().any(is_open);
        let missing: Vec<&str> = layer
            .params
            .iter()
            .zip(assign(&args, &names))
            .filter(|(param, slot)| slot.is_none() && matches!(param.preset, Preset::Required))
            .map(|(param, _)| param.name)
            .collect();
        if unchecked && !missing.is_empty() {
            self.error(frame, missing_argument(&call.name, &missing, &names));
        }
        for (param, slot) in layer.params.iter().zip(assign(&args, &names)) {
            let Some(arg) = slot else {
                if matches!(param.preset, Preset::Required) {
                    self.report.unknown(call.span);
                    complete = false;
                }
                continue;
            };
            let value = self.eval(frame, &arg.value);
            match convert(&value, param.ty) {
                Ok(value) if matches!(param.ty, ParamType::Axis | ParamType::Axes) => {
                    match self.along_first_axis(frame, layer, arg, value, flow) {
                        Some(value) => result.args.set(param.name, value),
                        None => complete = false,
                    }
                }
                Ok(value) => result.args.set(param.name, value),
                Err(wanted) => {
                    complete = false;
                    if !holds_unknown(&value) {
                        self.wrong_argument(frame, layer, param, arg, &value, wanted);
                    }
                }
            }
            result.given.push((param.name, arg.span));
        }
        complete &= self.places_along_axis(frame, layer, call, &mut result, flow);
        complete.then_some(result)
    }

    /// The values that a layer takes by one of its places, several where that is a list of them; `None` where it is a
    /// number, for the first parameters.
    fn operands(&mut self, frame: &Frame, layer: &Layer, e: &Expr) -> Option<Vec<Operand>> {
        let value = self.label_or_value(frame, e);
        let operand = |value: &Val| match value {
            Val::Node(node) => Some(Operand { flow: Flow::Node(*node), span: None }),
            Val::Unknown => Some(Operand { flow: Flow::Unknown, span: None }),
            _ => None,
        };
        if let Val::List(values) = &value
            && let Some(operands) = values.values().iter().map(operand).collect()
        {
            return Some(operands);
        }
        if !matches!(value, Val::Node(_) | Val::Unknown) {
            if !layer.params.is_empty() {
                return None;
            }
            let diagnostic = self.no_label(frame, e, &value);
            let instead = value.number().and_then(|_| with_a_number(layer.name));
            self.error(frame, instead.map_or(diagnostic.clone(), |help| diagnostic.help(help)));
        }
        Some(vec![operand(&value).unwrap_or(Operand { flow: Flow::Unknown, span: None })])
    }

    /// Whether only its value tells that an argument is a label or a number.
    fn is_open(&self, frame: &Frame, e: &Expr) -> bool {
        match &e.kind {
            ExprKind::Name(name) => self.bound(frame, name).is_some(),
            _ => may_be_number(e),
        }
    }

    /// Places along an axis that count from its end, or are left out, as they are of the value at hand.
    fn places_along_axis(
        &mut self,
        frame: &Frame,
        layer: &'static Layer,
        call: &Call,
        result: &mut LayerCall,
        flow: Flow,
    ) -> bool {
        for param in layer.params.iter().filter(|p| p.ty == ParamType::Place) {
            let place = result.args.has(param.name).then(|| result.args.int(param.name));
            if place.is_some_and(|place| place >= 0) || (place.is_none() && param.preset == Preset::Required) {
                continue;
            }
            let Flow::Node(node) = flow else { return false };
            let shape = &self.graph.node(node).shape;
            // An axis that the value does not have is told by the op.
            let size = shape.dims().get(result.args.size("axis")).map_or(0, |&size| size as i64);
            let counted = place.map_or(size, |place| if size == 0 { 0 } else { place + size });
            if counted < 0 {
                let message = format!("{} lies before the {size} elements", place.unwrap_or_default());
                let given = result.given.iter().find(|(name, _)| *name == param.name);
                let span = given.map_or(call.name.span, |(_, span)| *span);
                let diagnostic = Diagnostic::error("wrong-argument", about(layer, &message));
                self.error(frame, diagnostic.primary(span, param.doc));
                return false;
            }
            result.args.set(param.name, Value::Int(counted));
        }
        true
    }

    /// Axes that count from the end, as they are of the value at hand.
    fn along_first_axis(&mut self, frame: &Frame, layer: &Layer, arg: &Arg, value: Value, flow: Flow) -> Option<Value> {
        let counts_from_end = |v: &Value| matches!(v, Value::Int(..0));
        match &value {
            Value::List(axes) if axes.iter().any(counts_from_end) => {}
            v if counts_from_end(v) => {}
            _ => return Some(value),
        }
        let Flow::Node(node) = flow else { return None };
        let shape = &self.graph.node(node).shape;
        let rank = shape.rank() as i64;
        let counted = |v: &Value| match *v {
            Value::Int(axis @ ..0) if axis + rank >= 0 => Ok(Value::Int(axis + rank)),
            Value::Int(axis @ ..0) => Err(axis),
            ref other => Ok(other.clone()),
        };
        let result = match &value {
            Value::List(axes) => axes.iter().map(counted).collect::<Result<Vec<_>, _>>().map(Value::List),
            one => counted(one),
        };
        match result {
            Ok(value) => Some(value),
            Err(axis) => {
                let message = about(layer, &format!("{shape} has no axis {axis}"));
                let diagnostic = Diagnostic::error("wrong-argument", message);
                self.error(frame, diagnostic.primary(arg.value.span, format!("its axes are {} to -1", -rank)));
                None
            }
        }
    }

    fn wrong_argument(&mut self, frame: &Frame, layer: &Layer, param: &Param, arg: &Arg, value: &Val, wanted: &str) {
        let most = format!("at most {MAX_SIZE}");
        let wanted = if takes_sizes(param.ty) && exceeds(value, MAX_SIZE) { &most } else { wanted };
        let message = format!("`{}` of `{}` is {wanted}, not {}", param.name, layer.name, describe(value));
        let diagnostic = Diagnostic::error("wrong-argument", message).primary(arg.value.span, param.doc);
        let word = if let Val::Str(word) = value { pad_in_numbers(word) } else { None };
        let is_list = matches!(param.ty, ParamType::Ints | ParamType::Axes) && value.number().is_some();
        let diagnostic = match is_list {
            true => diagnostic.help(format!("several numbers stand in a list: `{}([0, 2, 1])`", layer.name)),
            false => diagnostic,
        };
        let is_pad = matches!(param.ty, ParamType::Pad | ParamType::Pad3 | ParamType::Count2);
        let smaller = |v: &Val| v.number().is_some_and(|v| v < 0.0);
        let diagnostic = match is_pad && (smaller(value) || value.parts().is_some_and(|p| p.iter().any(smaller))) {
            true => diagnostic.help("nothing is padded away: `slice` cuts elements off"),
            false => diagnostic,
        };
        let diagnostic = match value.number().filter(|v| takes_sizes(param.ty) && v.fract() != 0.0) {
            Some(_) => diagnostic.help("`floor(…)`, `ceil(…)` or `round(…)` makes a whole number of it"),
            None => diagnostic,
        };
        self.error(frame, word.filter(|_| is_pad).map_or(diagnostic.clone(), |help| diagnostic.help(help)));
    }

    fn layer_error(&mut self, frame: &Frame, call: &LayerCall, error: LayerError) {
        let given = call.given.iter().find(|(name, _)| *name == error.param);
        let span = given.map_or(call.call.name.span, |(_, span)| *span);
        let diagnostic = Diagnostic::error("wrong-argument", about(call.layer, &error.message));
        self.error(frame, diagnostic.primary(span, format!("parameter `{}`", error.param)));
    }

    fn shape_error(&mut self, frame: &Frame, call: &LayerCall, error: ShapeError, input: NodeId) {
        let given = error.param.and_then(|p| call.given.iter().find(|(name, _)| *name == p));
        let span = given.map_or(call.call.name.span, |(_, span)| *span);
        let label = match (given, error.param) {
            (Some(_), _) => String::new(),
            (None, Some(param)) => format!("parameter `{param}`"),
            (None, None) => "does not fit".into(),
        };
        let mut diagnostic = Diagnostic::error("shape", about(call.layer, &error.message)).primary(span, label);
        let node = self.graph.node(input);
        // Where only an argument is at fault, the input has nothing to do with it.
        let concerns_input = error.operand.is_some() || error.param.is_none();
        if let Some(from) = node.location.as_ref().map(|l| l.span).filter(|from| concerns_input && *from != span) {
            diagnostic = diagnostic.secondary(from, format!("its input comes from here: {}", node.shape));
        }
        diagnostic.help.extend(error.help);
        self.error(frame, diagnostic);
    }

    /// What a layer that does not fit was likely meant to give, so that evaluation can go on: its
    /// shape with the parameter at fault left at its default, or on a flattened input.
    fn likely_op(&self, call: &LayerCall, error: &ShapeError, input: NodeId) -> Option<Shape> {
        let shape = &self.graph.node(input).shape;
        let mut args = call.args.clone();
        if let Some(param) = error.param.and_then(|p| call.layer.params.iter().find(|l| l.name == p)) {
            match param.preset.value().or(match param.ty {
                ParamType::Size | ParamType::Size2 | ParamType::Size3 | ParamType::Sizes => Some(Value::Int(1)),
                _ => None,
            }) {
                Some(value) => args.set(param.name, value),
                None if matches!(param.preset, Preset::Required) => return None,
                None => args.remove(param.name),
            }
        }
        let op = (call.layer.build)(&args).ok()?;
        let flat = || Some(Shape::from([shape.dims().first().copied()?, shape.dims()[1..].iter().product()]));
        op.infer(&[shape]).ok().or_else(|| op.infer(&[&flat()?]).ok())
    }

    /// A node that stands for a value of the given shape. Only behind an error.
    fn placeholder(&mut self, shape: Shape) -> Flow {
        Flow::Node(self.graph.add_input("?", shape, None, None))
    }

    // ---- Nodes -------------------------------------------------------------------------------

    /// Adds an operation with its weights, named after the scope at hand.
    pub(super) fn add_node(
        &mut self,
        frame: &Frame,
        op: Op,
        operands: &[NodeId],
        span: Span,
        labelled: bool,
    ) -> Result<NodeId, ShapeError> {
        if self.graph.len() == MAX_NODES && !self.stopped {
            self.stopped = true;
            let message = format!("the network has more than {MAX_NODES} nodes");
            self.error(frame, Diagnostic::error("unroll-limit", message).primary(span, "one too many"));
        }
        let location = Some(self.location(span));
        let is_phased = matches!(op, Op::BatchNorm(_) | Op::Dropout(_));
        let layer = op.layer_name();
        let name = labelled.then(|| frame.path());
        if let (Op::Conv2d(conv), Some(&operand)) = (&op, operands.first()) {
            self.warn_of_channels_last(conv.kernel, operand);
        }
        let decls = op.infer(&self.graph.shapes(operands)).map(|_| op.weights(&self.graph.shapes(operands)));
        let node = self.graph.add(op, operands, vec![], name, location)?;
        if !frame.calls.is_empty() {
            self.node_calls.insert(node, frame.calls.clone());
        }
        if is_phased {
            self.note_place(node, &frame.scopes);
        }
        match decls? {
            decls if decls.is_empty() => {}
            decls if labelled && frame.shares.is_some() => self.sharing.push(Sharing {
                path: frame.path(),
                node,
                decls,
                span,
                calls: frame.calls.clone(),
                shares: frame.shares.clone().expect("looked at above"),
            }),
            decls if labelled => {
                let weights = self.declare(&frame.path(), decls, span, &frame.calls);
                self.graph.set_weights(node, weights);
            }
            _ => self.unnamed.push(Unnamed {
                path: frame.path(),
                layer,
                node,
                span,
                calls: frame.calls.clone(),
                shares: frame.shares.clone(),
            }),
        }
        Ok(node)
    }

    /// Warns of an input that is written as images whose channels are last, and read by a convolution as it stands.
    fn warn_of_channels_last(&mut self, [height, width]: [usize; 2], operand: NodeId) {
        // A window of one column is for what has columns of one kind: sequences, points.
        if width == 1 && height > 1 {
            return;
        }
        let before = |value: &NodeId| <[NodeId; 1]>::try_from(self.graph.operands(*value)).ok().map(|[before]| before);
        let chain = std::iter::successors(Some(operand), before).take(MOST_BEFORE_A_CONV);
        let Some(input) = chain.last() else { return };
        let node = self.graph.node(input);
        let [n, h, w, c] = *node.shape.dims() else { return };
        let is_picture = h >= 8 && w >= 8 && if h == w { matches!(c, 1 | 3 | 4) } else { c == 3 };
        let (Some(name), Some(place)) = (node.name.as_deref().filter(|_| is_picture), node.location.as_ref()) else {
            return;
        };
        if node.op().is_some() || self.graph.node(operand).shape.dims() != [n, h, w, c] {
            return;
        }
        let message = format!("the input `{name}` has {h} channels of {w}×{c} pixels: netc is channels first");
        let batch = if self.open.contains(&input) { "N".into() } else { n.to_string() };
        let diagnostic = Diagnostic::warning("channels-last", message).primary(place.span, "looks like channels last");
        self.report.add(
            diagnostic
                .help(format!("write `[{batch}, {c}, {h}, {w}]`"))
                .help("`netc run --layout nhwc` takes arrays that have their channels last"),
        );
    }

    fn declare(&mut self, path: &str, decls: Vec<WeightDecl>, span: Span, calls: &Calls) -> Vec<WeightId> {
        let mut ids = vec![];
        for decl in decls {
            let name = decl.name(path);
            match self.graph.weights.declare(&name, decl.shape, decl.init, decl.learnable) {
                Ok(id) => {
                    self.origins.insert(id, Origin { span, calls: calls.clone() });
                    if decl.role.is_empty() {
                        // As files have it that were written when it was a weight `value`.
                        self.graph.weights.add_alias(&format!("{path}.value"), id);
                    }
                    ids.push(id);
                }
                Err(taken) => {
                    let first = self.origins[&taken.first].clone();
                    self.duplicate_weight(&name, span, calls, &first);
                    break;
                }
            }
        }
        ids
    }

    fn duplicate_weight(&mut self, name: &str, span: Span, calls: &[(Span, String)], first: &Origin) {
        let diagnostic = Diagnostic::error("duplicate-weight", format!("two layers have a weight named `{name}`"));
        // Two calls of one module have the layer's text in common: then the calls are what differs.
        let differing = calls.iter().zip(first.calls.iter()).position(|(a, b)| a.0 != b.0);
        let diagnostic = match differing.filter(|_| span == first.span) {
            Some(at) => super::with_calls(diagnostic.primary(calls[at].0, "gives the name again"), &calls[..at])
                .secondary(first.calls[at].0, "gives it first")
                .secondary(span, format!("to this layer in `{}`", calls[calls.len() - 1].1)),
            None if span == first.span => diagnostic.primary(span, "gives the name again and again"),
            None => super::with_calls(diagnostic.primary(span, "gives the name again"), calls)
                .secondary(first.span, "first given here"),
        };
        self.report.add(diagnostic.help("give the call a label: it becomes a part of the names inside"));
    }

    /// Names the weights of layers without a label: after their scope where it holds one such layer,
    /// else after kind and position: `conv_0`, `conv_1`, `batch_norm_0`.
    pub(super) fn name_unnamed(&mut self) {
        let mut in_scope: BTreeMap<String, usize> = BTreeMap::new();
        let unnamed = std::mem::take(&mut self.unnamed);
        for layer in &unnamed {
            *in_scope.entry(layer.path.clone()).or_default() += 1;
        }
        let mut counts: BTreeMap<(String, &str), usize> = BTreeMap::new();
        for layer in unnamed {
            let is_scope = !layer.path.is_empty() && !self.is_model_call(&layer.path);
            let name = if is_scope && in_scope[&layer.path] == 1 {
                layer.path
            } else {
                let count = counts.entry((layer.path.clone(), layer.layer)).or_default();
                let own = format!("{}_{count}", layer.layer);
                *count += 1;
                if layer.path.is_empty() { own } else { format!("{}.{own}", layer.path) }
            };
            let operands = self.graph.operands(layer.node);
            let op = self.graph.node(layer.node).op().cloned();
            let decls = op.map_or(vec![], |op| op.weights(&self.graph.shapes(&operands)));
            match layer.shares {
                Some(shares) => {
                    let (path, node, span, calls) = (name.clone(), layer.node, layer.span, layer.calls);
                    self.sharing.push(Sharing { path, node, decls, span, calls, shares });
                }
                None => {
                    let ids = self.declare(&name, decls, layer.span, &layer.calls);
                    self.graph.set_weights(layer.node, ids);
                }
            }
            if self.graph.node(layer.node).name.is_none() {
                self.graph.set_name(layer.node, Some(name));
            }
        }
    }

    /// Gives layers that share weights those of the others, which have names by now.
    pub(super) fn share_weights(&mut self) {
        let sharing = std::mem::take(&mut self.sharing);
        let own_name = |sharing: &Sharing, decl: &WeightDecl| decl.name(&sharing.path);
        // A layer may share what another one shares: names lead to a name that holds a weight. Each leads to a label
        // before its own, so that none leads back.
        let named = sharing.iter().flat_map(|s| s.decls.iter().map(move |decl| (s, own_name(s, decl))));
        let mut leads: HashMap<String, String> =
            named.map(|(s, own)| (own.clone(), s.shares.other_name(&own))).collect();
        for sharing in &sharing {
            let mut weights = vec![];
            for decl in &sharing.decls {
                let own = own_name(sharing, decl);
                let other = sharing.shares.other_name(&own);
                let found = self.graph.weights.find(&follow(&mut leads, &other));
                match found.filter(|&id| self.graph.weights.get(id).shape == decl.shape) {
                    Some(id) => {
                        if !self.is_in_later_call(&own) {
                            self.graph.weights.add_alias(&own, id);
                        }
                        weights.push(id);
                    }
                    None => {
                        self.cannot_share(sharing, decl, &other, found);
                        break;
                    }
                }
            }
            self.graph.set_weights(sharing.node, weights);
        }
    }

    fn cannot_share(&mut self, sharing: &Sharing, decl: &WeightDecl, other: &str, found: Option<WeightId>) {
        if self.is_in_later_call(&sharing.path) && self.report.has_errors() {
            // The model's first call has no weights, since something else is wrong.
            return;
        }
        let (path, shape) = (&sharing.path, &decl.shape);
        let message = match found {
            Some(id) => format!(
                "`{path}` needs {shape} as its {}, but `{other}` is {}",
                decl.role,
                self.graph.weights.get(id).shape
            ),
            None => format!("`{path}` has no weights to share: there is no `{other}`"),
        };
        let diagnostic = Diagnostic::error("shared-weights", message).primary(sharing.shares.span, "shares these");
        let diagnostic = diagnostic.secondary(sharing.span, "for this layer");
        let origin = found.and_then(|id| self.origins.get(&id)).map(|origin| origin.span);
        let diagnostic = match origin.filter(|span| *span != sharing.span) {
            Some(span) => diagnostic.secondary(span, "whose weights are those of this one"),
            None => diagnostic,
        };
        self.report.add(super::with_calls(diagnostic, &sharing.calls));
    }

    /// Gives the last node of each labelled block or call its label, unless another node has it. A label in a module that is
    /// called several times without one is that of the first call's node.
    pub(super) fn name_results(&mut self) {
        let mut taken: HashSet<String> = HashSet::new();
        for id in self.graph.order() {
            if self.graph.node(id).name.as_ref().is_some_and(|name| !taken.insert(name.clone())) {
                self.graph.set_name(id, None);
            }
        }
        for (node, name) in std::mem::take(&mut self.results) {
            if self.graph.node(node).name.is_none() && taken.insert(name.clone()) {
                self.graph.set_name(node, Some(name));
            }
        }
    }
}

/// Where a name leads at last. What was passed on the way leads there at once from then on, so that long chains take no
/// time by the square of their length.
fn follow(leads: &mut HashMap<String, String>, name: &str) -> String {
    let mut passed: Vec<String> = vec![];
    let mut end = name.to_string();
    while let Some(next) = leads.get(&end).filter(|_| passed.len() < leads.len()) {
        passed.push(std::mem::replace(&mut end, next.clone()));
    }
    for name in passed {
        leads.insert(name, end.clone());
    }
    end
}

/// Whether an argument is a number, a list of numbers or the like, whatever its names stand for: no label.
pub(super) fn is_plain(e: &Expr) -> bool {
    use ExprKind::*;
    match &e.kind {
        List(values) => values.iter().all(is_plain),
        Field(_, field) => super::expression::FIELDS.contains(&field.name.as_str()),
        // Lists are added, too.
        Binary(BinaryOp::Add, _, left, right) => {
            [left, right].into_iter().any(|e| is_plain(e) && !matches!(e.kind, List(_)))
        }
        kind => matches!(
            kind,
            Int(_) | Float(_) | Bool(_) | Tuple(_) | Unary(..) | Binary(..) | Range { .. } | Function(..)
        ),
    }
}

/// Whether an argument that is no name and not plain may still turn out to be a number.
pub(super) fn may_be_number(e: &Expr) -> bool {
    !is_plain(e) && matches!(e.kind, ExprKind::Index(..) | ExprKind::If { .. } | ExprKind::Binary(..))
}

/// Parameters without a default that a call does not give.
pub(super) fn missing_argument(callee: &Ident, missing: &[&str], names: &[&str]) -> Diagnostic {
    let missing: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
    let message = format!("`{}` needs {}", callee.name, missing.join(" and "));
    let diagnostic = Diagnostic::error("missing-argument", message).primary(callee.span, "not given");
    diagnostic.note(parameters(names))
}

/// What a message says of a callee's parameters.
pub(super) fn parameters(names: &[&str]) -> String {
    format!("its parameters: {}", names.join(", "))
}

/// The argument of each parameter: by position, by name, or by a name that is nearly right.
pub(crate) fn assign<'a>(args: &'a [Arg], params: &[&str]) -> Vec<Option<&'a Arg>> {
    let mut slots: Vec<Option<&Arg>> = vec![None; params.len()];
    for (position, arg) in args.iter().enumerate() {
        let slot = match &arg.name {
            None => Some(position).filter(|p| *p < params.len()),
            Some(name) => params.iter().position(|p| *p == name.name).or_else(|| {
                let similar = nearest(&name.name, params.iter().copied())?;
                params.iter().position(|p| *p == similar).filter(|&i| slots[i].is_none())
            }),
        };
        if let Some(slot) = slot {
            slots[slot] = slots[slot].or(Some(arg));
        }
    }
    slots
}

/// Whether the operands of a join say themselves where the flow stands among them: `concat(skip, here)`. A single one
/// is joined with the flow, whatever it is.
fn places_flow(frame: &Frame, call: &Call) -> bool {
    let places = call.args.iter().filter(|arg| arg.name.is_none()).map(|arg| &arg.value);
    let operands: Vec<&Expr> = places.flat_map(in_lists).collect();
    let is_flow = |e: &&Expr| match e.kind {
        ExprKind::Here => true,
        ExprKind::In => frame.input == frame.here,
        _ => false,
    };
    operands.len() > 1 && operands.iter().any(is_flow)
}

/// The values that a list, or a sum of lists, holds as it is written; what is no list is one.
fn in_lists(e: &Expr) -> Vec<&Expr> {
    match &e.kind {
        ExprKind::List(values) => values.iter().collect(),
        ExprKind::Binary(BinaryOp::Add, _, left, right) => [in_lists(left), in_lists(right)].concat(),
        _ => vec![e],
    }
}

/// A message that begins with the layer's name.
fn about(layer: &Layer, message: &str) -> String {
    match message.strip_prefix(layer.name) {
        Some(rest) if rest.starts_with(' ') => format!("`{}`{rest}", layer.name),
        _ => format!("`{}`: {message}", layer.name),
    }
}

pub(super) fn holds_unknown(value: &Val) -> bool {
    value.is_unknown() || value.parts().is_some_and(|p| p.iter().any(holds_unknown))
}

/// Parameters that take integers up to [`MAX_SIZE`].
fn takes_sizes(ty: ParamType) -> bool {
    use ParamType::*;
    matches!(ty, Size | Count | Int | Place | Size2 | Count2 | Pad | Size3 | Sizes | Pad3)
}

/// Whether the number, or one of a list, is too large.
fn exceeds(value: &Val, most: i64) -> bool {
    let too_large = |v: &Val| v.number().is_some_and(|v| v > most as f64);
    too_large(value) || value.parts().is_some_and(|parts| parts.iter().any(too_large))
}

pub(super) fn describe(value: &Val) -> String {
    match value {
        Val::Int(_) | Val::Float(_) | Val::Bool(_) | Val::List(_) | Val::Tuple(_) => value.quoted(),
        Val::Str(_) => format!("the string {}", value.quoted()),
        other => other.type_name().to_string(),
    }
}

/// What has no digits is written as a string.
fn infinite(value: &Val) -> Option<f64> {
    match value {
        Val::Str(word) if **word == *"inf" => Some(f64::INFINITY),
        Val::Str(word) if **word == *"-inf" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// The value as a parameter of the given type takes it.
///
/// # Errors
/// What the type wants.
pub(super) fn convert(value: &Val, ty: ParamType) -> Result<Value, &'static str> {
    let integer = |v: &Val, least: i64| v.integer().filter(|v| (least..=MAX_SIZE).contains(v)).map(Value::Int);
    let integers = |lengths: &[usize], least: i64| {
        let parts = value.parts().filter(|p| lengths.contains(&p.len()))?;
        parts.iter().map(|p| integer(p, least)).collect::<Option<Vec<_>>>().map(Value::Tuple)
    };
    let numbers = |lengths: &[usize]| match value.number() {
        Some(one) => Some(Value::Float(one)),
        None => {
            let parts = value.parts().filter(|p| lengths.contains(&p.len()))?;
            parts.iter().map(|v| v.number().map(Value::Float)).collect::<Option<Vec<_>>>().map(Value::Tuple)
        }
    };
    let all =
        |of: fn(&Val) -> Option<Value>| value.parts()?.iter().map(of).collect::<Option<Vec<_>>>().map(Value::List);
    match ty {
        ParamType::Size => integer(value, 1).ok_or("an integer from 1 on"),
        ParamType::Count => integer(value, 0).ok_or("an integer from 0 on"),
        ParamType::Int => integer(value, -MAX_SIZE).ok_or("an integer"),
        ParamType::Place => integer(value, -MAX_SIZE).ok_or("an integer, from the end where it is negative"),
        ParamType::Extended => match infinite(value) {
            Some(infinity) => Ok(Value::Float(infinity)),
            None => convert(value, ParamType::Float),
        },
        ParamType::Float => match value.number() {
            Some(number) if (number as f32).is_finite() => Ok(Value::Float(number)),
            Some(_) => Err("a number of single precision, below 3.5e38"),
            None => Err("a number"),
        },
        ParamType::Float2 => numbers(&[2]).ok_or("a number or a pair (height, width) of them"),
        ParamType::Floats3 => {
            numbers(&[2, 3]).ok_or("a number, (vertical, horizontal) or (depth, vertical, horizontal)")
        }
        ParamType::Bool => {
            if let Val::Bool(v) = value {
                Ok(Value::Bool(*v))
            } else {
                Err("true or false")
            }
        }
        ParamType::Str => {
            if let Val::Str(v) = value {
                Ok(Value::Str(v.to_string()))
            } else {
                Err("a string")
            }
        }
        ParamType::Size2 => integer(value, 1)
            .or_else(|| integers(&[2], 1))
            .ok_or("an integer from 1 on or a pair (height, width) of them"),
        ParamType::Count2 => integer(value, 0)
            .or_else(|| integers(&[2], 0))
            .ok_or("an integer from 0 on or a pair (height, width) of them"),
        ParamType::Pad => integer(value, 0)
            .or_else(|| integers(&[2, 4], 0))
            .ok_or("an integer from 0 on, (vertical, horizontal) or (top, left, bottom, right)"),
        ParamType::PerChannel => {
            let number = |v: &Val| v.number().filter(|v| (*v as f32).is_finite()).map(Value::Float);
            number(value)
                .or_else(|| all(|v| v.number().filter(|v| (*v as f32).is_finite()).map(Value::Float)))
                .ok_or("a number, or a list of numbers")
        }
        ParamType::Axis => integer(value, -MAX_SIZE).ok_or("an axis, an integer"),
        ParamType::Axes => all(|v| v.integer().filter(|v| v.abs() <= MAX_SIZE).map(Value::Int)).ok_or("a list of axes"),
        ParamType::Size3 => integer(value, 1)
            .or_else(|| integers(&[3], 1))
            .ok_or("an integer from 1 on or three (depth, height, width) of them"),
        ParamType::Sizes => integer(value, 1)
            .or_else(|| integers(&[2, 3], 1))
            .ok_or("an integer from 1 on, (height, width) or (depth, height, width)"),
        ParamType::Pad3 => integer(value, 0)
            .or_else(|| integers(&[3, 6], 0))
            .ok_or("an integer from 0 on, (depth, height, width), or those before each axis and behind each"),
        ParamType::Ints => all(|v| v.integer().map(Value::Int)).ok_or("a list of integers"),
        ParamType::Floats => all(|v| v.number().map(Value::Float)).ok_or("a list of numbers"),
    }
}
