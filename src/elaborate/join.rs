//! Where values come together: `residual`, `branches`, and the operands of joins.

use super::expression::dotted_name;
use super::value::Val;
use super::{Elaborator, Flow, Frame};
use crate::diagnostic::{Diagnostic, Span};
use crate::ops::Op;
use crate::ops::layer::{Arity, Layer};
use crate::syntax::ast::{self, Block, Branches, Expr, ExprKind, Statement, StatementKind};
use crate::tensor::Shape;

/// A value that enters a join, and the text to show for it.
#[derive(Clone, Copy)]
pub(crate) struct Operand {
    pub flow: Flow,
    pub span: Option<Span>,
}

impl Elaborator<'_> {
    pub(super) fn residual(
        &mut self,
        frame: &mut Frame,
        body: &Block,
        skip: Option<&Block>,
        span: Span,
        flow: Flow,
    ) -> Flow {
        let main = self.block(frame, body, flow);
        let other = skip.map_or(flow, |skip| self.block(frame, skip, flow));
        let keyword = Span { end: span.start + "residual".len() as u32, ..span };
        let last = |block: &Block| block.statements.last().map(|s| s.span);
        let operands = [Operand { flow: main, span: last(body) }, Operand { flow: other, span: skip.and_then(last) }];
        if let [Flow::Node(a), Flow::Node(b)] = [main, other]
            && self.graph.node(a).shape != self.graph.node(b).shape
        {
            let a_and_b = [a, b].map(|n| self.graph.node(n).shape.clone());
            let [a, b] = &a_and_b;
            let diagnostic = Diagnostic::error("join-mismatch", format!("the residual's body gives {a}, its skip {b}"))
                .primary(keyword, "adds two different shapes");
            let diagnostic = self.show_operands(diagnostic, &operands);
            let lost = self.lost_padding(&a_and_b, [main, flow]);
            self.error(
                frame,
                match skip {
                    _ if lost.is_some() => diagnostic.help(lost.unwrap_or_default()),
                    None => diagnostic.help("give the residual a `skip { … }` that projects its input"),
                    Some(_) => diagnostic,
                },
            );
            return main;
        }
        self.join(frame, "add", &operands, keyword)
    }

    /// Where a residual's body has a smaller image than its input, because of windows without padding: what would keep
    /// the size.
    fn lost_padding(&self, [body, skip]: &[Shape; 2], [end, start]: [Flow; 2]) -> Option<String> {
        let [Flow::Node(end), Flow::Node(start)] = [end, start] else { return None };
        let (&[_, channels, height, width], &[_, of_skip, full_height, full_width]) = (body.dims(), skip.dims()) else {
            return None;
        };
        let mut missing = [full_height.checked_sub(height)?, full_width.checked_sub(width)?];
        if channels != of_skip || missing == [0, 0] {
            return None;
        }
        // Back along the flow, as long as each value is made of one other.
        let (mut pads, mut node) = (vec![], end);
        while node != start {
            let operands = self.graph.operands(node);
            let (&[before], Some(op)) = (operands.as_slice(), self.graph.node(node).op()) else { return None };
            let (from, to) = (&self.graph.node(before).shape, &self.graph.node(node).shape);
            if let Some(window) = op.window(&[from], to).filter(|w| w.stride == [1, 1]) {
                let lost = [2, 3].map(|axis| {
                    from.dims().get(axis).zip(to.dims().get(axis)).map_or(0, |(a, b)| a.saturating_sub(*b))
                });
                let whole =
                    (0..2).all(|i| lost[i] + 1 == window.extent[i] && lost[i] % 2 == 0 && lost[i] <= missing[i]);
                if whole && lost != [0, 0] {
                    let name = self.graph.node(node).name.clone().unwrap_or_else(|| op.layer_name().to_string());
                    let pad = if lost[0] == lost[1] {
                        (lost[0] / 2).to_string()
                    } else {
                        format!("({}, {})", lost[0] / 2, lost[1] / 2)
                    };
                    pads.push(format!("`pad = {pad}` in `{name}`"));
                    (0..2).for_each(|i| missing[i] -= lost[i]);
                }
            }
            node = before;
        }
        let size = format!("{full_height} × {full_width}");
        (missing == [0, 0]).then(|| {
            pads.reverse();
            format!("only sizes differ: {} keep{} {size}", pads.join(" and "), if pads.len() == 1 { "s" } else { "" })
        })
    }

    pub(super) fn branches(&mut self, frame: &mut Frame, branches: &Branches, flow: Flow) -> Flow {
        let mut operands = vec![];
        self.scoped(frame, branches.span, flow, |this, frame| {
            this.branch_lines(frame, &branches.body.statements, flow, &mut operands);
            flow
        });
        if operands.is_empty() {
            let diagnostic = Diagnostic::error("no-branches", "nothing to join");
            self.error(frame, diagnostic.primary(branches.span, "no branch").help("write one branch a line"));
            return Flow::Unknown;
        }
        self.join(frame, &branches.join.name, &operands, branches.join.span)
    }

    /// Gathers the branches of some lines. `for`, `if` and `when` alone on a line bring those of
    /// their blocks; bindings and requirements bring none.
    fn branch_lines(&mut self, frame: &mut Frame, statements: &[Statement], flow: Flow, operands: &mut Vec<Operand>) {
        for line in ast::lines(statements) {
            let [Statement { label: None, kind, .. }] = line else {
                self.branch(frame, line, flow, operands);
                continue;
            };
            let mut inner = |this: &mut Self, frame: &mut Frame, block: &Block| {
                this.scoped(frame, block.span, flow, |this, frame| {
                    this.branch_lines(frame, &block.statements, flow, operands);
                    flow
                });
            };
            match kind {
                StatementKind::For { pattern, items, body } => {
                    self.each(frame, pattern, items, |this, frame| inner(this, frame, body));
                }
                StatementKind::If { arms, otherwise } => {
                    if let Ok(Some(block)) = self.chosen(frame, arms, otherwise.as_ref()) {
                        inner(self, frame, block);
                    }
                }
                StatementKind::When { phase, body } if self.is_phase(&phase.name) => inner(self, frame, body),
                StatementKind::When { .. } => {}
                StatementKind::Let(_) | StatementKind::Table(_) | StatementKind::Require { .. } => {
                    self.statements(frame, line, flow);
                }
                _ => self.branch(frame, line, flow, operands),
            }
        }
    }

    fn branch(&mut self, frame: &mut Frame, line: &[Statement], flow: Flow, operands: &mut Vec<Operand>) {
        let result = self.statements(frame, line, flow);
        operands.push(Operand { flow: result, span: line.last().map(|s| s.span) });
    }

    /// Joins values by one of the layers that the language has words for.
    fn join(&mut self, frame: &mut Frame, layer: &str, operands: &[Operand], span: Span) -> Flow {
        let Some(layer) = self.program.layer(layer) else {
            self.report.unknown(span);
            return Flow::Unknown;
        };
        match (layer.build)(&layer.defaults()) {
            Ok(op) => self.join_values(frame, op, layer, operands, span),
            Err(error) => unreachable!("{} is built from its defaults: {}", layer.name, error.message),
        }
    }

    /// Adds an operation of several values; one that takes two is applied again and again.
    pub(super) fn join_values(
        &mut self,
        frame: &mut Frame,
        op: Op,
        layer: &Layer,
        operands: &[Operand],
        span: Span,
    ) -> Flow {
        let node = |o: &Operand| if let Flow::Node(n) = o.flow { Some(n) } else { None };
        let nodes: Option<Vec<_>> = operands.iter().map(node).collect();
        let Some(nodes) = nodes.filter(|n| !n.is_empty()) else {
            self.report.unknown(span);
            return Flow::Unknown;
        };
        if nodes.len() == 1 {
            return Flow::Node(nodes[0]);
        }
        let result = match layer.arity {
            Arity::Fold => nodes[1..]
                .iter()
                .try_fold(nodes[0], |sum, &next| self.add_node(frame, op.clone(), &[sum, next], span, false)),
            _ => self.add_node(frame, op, &nodes, span, false),
        };
        match result {
            Ok(node) => Flow::Node(node),
            Err(error) => {
                let mut diagnostic =
                    Diagnostic::error("join-mismatch", error.message).primary(span, "joins these values");
                diagnostic.help.extend(error.help);
                let diagnostic = self.show_operands(diagnostic, operands);
                self.error(frame, diagnostic);
                Flow::Node(nodes[0])
            }
        }
    }

    /// Adds an operation of the flow and as many further values as are given, which may have weights.
    pub(super) fn one_of_values(
        &mut self,
        frame: &mut Frame,
        op: Op,
        operands: &[Operand],
        span: Span,
        labelled: bool,
    ) -> Flow {
        let node = |o: &Operand| if let Flow::Node(n) = o.flow { Some(n) } else { None };
        let Some(nodes) = operands.iter().map(node).collect::<Option<Vec<_>>>() else {
            self.report.unknown(span);
            return Flow::Unknown;
        };
        match self.add_node(frame, op, &nodes, span, labelled) {
            Ok(node) => Flow::Node(node),
            Err(error) => {
                let mut diagnostic = Diagnostic::error("shape", error.message).primary(span, "reads these values");
                diagnostic.help.extend(error.help);
                let diagnostic = self.show_operands(diagnostic, operands);
                self.error(frame, diagnostic);
                Flow::Unknown
            }
        }
    }

    /// Labels each operand with its shape, at the text that made it.
    fn show_operands(&self, mut diagnostic: Diagnostic, operands: &[Operand]) -> Diagnostic {
        for operand in operands {
            let Flow::Node(node) = operand.flow else { continue };
            let node = self.graph.node(node);
            let span = operand.span.or(node.location.as_ref().map(|l| l.span));
            if let Some(span) = span {
                diagnostic = diagnostic.secondary(span, node.shape.to_string());
            }
        }
        diagnostic
    }

    /// What an argument says that may be a label; a string is one, too.
    pub(super) fn label_or_value(&mut self, frame: &Frame, e: &Expr) -> Val {
        match (&e.kind, dotted_name(e)) {
            (ExprKind::Template(_), _) => match self.eval(frame, e) {
                Val::Str(name) => self.label_value(frame, &name, e.span),
                other => other,
            },
            (_, Some(name)) if name.split('.').next().is_none_or(|n| self.bound(frame, n).is_none()) => {
                self.label_value(frame, &name, e.span)
            }
            _ => match self.eval(frame, e) {
                Val::Str(name) => self.label_value(frame, &name, e.span),
                other => other,
            },
        }
    }

    /// The value that a `from` names.
    pub(super) fn network_value(&mut self, frame: &Frame, e: &Expr) -> Operand {
        let flow = match self.label_or_value(frame, e) {
            Val::Node(node) => Flow::Node(node),
            Val::Unknown => Flow::Unknown,
            other => {
                let diagnostic = self.no_label(frame, e, &other);
                self.error(frame, diagnostic);
                Flow::Unknown
            }
        };
        Operand { flow, span: None }
    }

    /// A mistake: an argument is none of the network's values. A name may have another meaning than the label's.
    pub(super) fn no_label(&mut self, frame: &Frame, e: &Expr, found: &Val) -> Diagnostic {
        let diagnostic = Diagnostic::error("wrong-type", format!("a label belongs here, not {}", found.type_name()));
        let diagnostic = diagnostic.primary(e.span, "not a value of the network");
        match &e.kind {
            ExprKind::Name(name) if self.has_label(frame, name) => diagnostic.help(format!(
                "a parameter or `let` of that name hides the label `{name}`: give one of them another name"
            )),
            _ => diagnostic,
        }
    }
}
