//! The module list: block → module, with shape, dtype and a tiny spectrum; filter and multi-selection.

use std::collections::BTreeSet;

use eframe::egui::text::{LayoutJob, TextWrapping};
use eframe::egui::{
    self, EventFilter, FontId, Id, Key, Pos2, Rect, RichText, Sense, Stroke, TextEdit, Ui, WidgetInfo, vec2,
};
use regex::{Regex, RegexBuilder};

use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::shared::names::{Block, Stacks};
use crate::app::view::View;
use crate::app::widgets::rows::sense;
use crate::checkpoint::expert_of;
use crate::delta::{DeltaSet, Entry};
use crate::spectrum::Spectrum;
use crate::units;
use crate::workspace::Selection;

const ROW: f32 = 24.0;
/// A list that is short enough is shown whole at first.
const OPEN_UP_TO: usize = 64;

/// One line of the list.
enum Row {
    /// A block's heading, with how many of its modules are shown.
    Block(Option<Block>, usize),
    /// A module, by its place among the entries.
    Module(usize),
}

/// What the list remembers between frames.
pub struct ModuleList {
    filter: String,
    regex: Option<Result<Regex, String>>,
    closed: BTreeSet<Option<Block>>,
    stacks: Stacks,
    rows: Vec<Row>,
    shown: usize,
    laid_out_for: Option<u64>,
    anchor: Option<String>,
    /// The line that the focus comes to.
    stop: usize,
    /// It has moved by an arrow key: it is to be seen, and to have the focus.
    moved: bool,
    list_id: Id,
}

impl Default for ModuleList {
    fn default() -> Self {
        Self {
            filter: String::new(),
            regex: None,
            closed: BTreeSet::new(),
            stacks: Stacks::default(),
            rows: Vec::new(),
            shown: 0,
            laid_out_for: None,
            anchor: None,
            stop: 0,
            moved: false,
            list_id: Id::NULL,
        }
    }
}

impl ModuleList {
    /// Paints the list.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.take_available_width();
        let Some(delta) = view.workspace.delta().cloned() else {
            ui.label("No model is open.");
            return;
        };
        if self.laid_out_for != Some(view.workspace.generation()) {
            self.laid_out_for = Some(view.workspace.generation());
            self.closed.clear();
            self.stacks = Stacks::of(delta.entries());
            // Of another model: it would hide modules without a word.
            (self.filter, self.regex) = (String::new(), None);
            if delta.entries().len() > OPEN_UP_TO {
                let block = |entry: &Entry| self.stacks.block(entry);
                let first = delta.entries().iter().find_map(block);
                self.closed = delta.entries().iter().map(block).filter(|&l| l.is_some() && l != first).collect();
            }
            self.lay_out(&delta);
        }
        self.header(ui, &delta, view);
        self.list(ui, &delta, view);
    }

    fn header(&mut self, ui: &mut Ui, delta: &DeltaSet, view: &mut View<'_>) {
        let edit = TextEdit::singleline(&mut self.filter)
            .hint_text("Filter, or /regex/")
            .desired_width(f32::INFINITY)
            .margin(vec2(8.0, 5.0));
        let response = ui.add(edit);
        response.widget_info(|| WidgetInfo::text_edit(true, "", &self.filter, "Filter modules"));
        let response = response
            .on_hover_text("Words that the module's name must contain, or /a regular expression/")
            .accessible_name("Filter modules");
        if response.changed() {
            self.regex = compile(&self.filter);
            self.lay_out(delta);
        }
        let colors = Colors::of(ui);
        ui.horizontal(|ui| {
            let total = delta.entries().len();
            let text = match &self.regex {
                Some(Err(error)) => RichText::new(error).color(colors.bad),
                _ if self.shown == total => {
                    RichText::new(format!("{total} module{}", if total == 1 { "" } else { "s" })).color(colors.weak)
                }
                _ => RichText::new(format!("{} of {total} modules", self.shown)).color(colors.weak),
            };
            ui.label(text.small());
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let all = egui::Button::new(RichText::new("Select all").small()).frame_when_inactive(false);
                if ui.add_enabled(self.shown > 0, all).on_hover_text("Select every module in the list").clicked() {
                    let names = self.visible(delta).map(|e| e.name.clone()).collect();
                    view.effects.push(Effect::Select(Selection::of(names)));
                }
            });
        });
    }

    fn visible<'a>(&'a self, delta: &'a DeltaSet) -> impl Iterator<Item = &'a Entry> {
        delta.entries().iter().filter(|e| e.problem.is_none() && self.matches(&e.name))
    }

    fn matches(&self, name: &str) -> bool {
        match &self.regex {
            None => true,
            Some(Ok(regex)) => regex.is_match(name),
            Some(Err(_)) => false,
        }
    }

    fn lay_out(&mut self, delta: &DeltaSet) {
        let entries = delta.entries();
        let hits: Vec<usize> = (0..entries.len()).filter(|&i| self.matches(&entries[i].name)).collect();
        self.shown = hits.len();
        self.rows.clear();
        let mut at = 0;
        while at < hits.len() {
            let of = |i: usize| self.stacks.block(&entries[i]);
            let layer = of(hits[at]);
            let end = hits[at..].iter().position(|&i| of(i) != layer).map_or(hits.len(), |n| at + n);
            self.rows.push(Row::Block(layer, end - at));
            // What a filter has found is always shown.
            if self.regex.is_some() || !self.closed.contains(&layer) {
                self.rows.extend(hits[at..end].iter().map(|&i| Row::Module(i)));
            }
            at = end;
        }
    }

    fn list(&mut self, ui: &mut Ui, delta: &DeltaSet, view: &mut View<'_>) {
        ui.spacing_mut().item_spacing.y = 0.0;
        let mut toggled = None;
        let mut chosen = None;
        self.stop = self.stop.min(self.rows.len().saturating_sub(1));
        let (stop, mut focus) = (self.stop, None);
        let moved = std::mem::take(&mut self.moved);
        egui::ScrollArea::vertical().auto_shrink(false).show_rows(ui, ROW, self.rows.len(), |ui, range| {
            let top = ui.cursor().top();
            let at = |row: usize| top + (row as f32 - range.start as f32) * ROW;
            if moved {
                let line = Rect::from_x_y_ranges(ui.max_rect().x_range(), at(stop)..=at(stop) + ROW);
                ui.scroll_to_rect(line, None);
            }
            // Out of sight, the stop is the first line that is seen: Tab never leads to nothing.
            let seen = if range.contains(&stop) { stop } else { range.start };
            let list = ui.scope_id().with("lines");
            self.list_id = list;
            for (number, row) in range.clone().zip(&self.rows[range]) {
                let line = Line { id: list.with(number), stop: number == seen };
                match *row {
                    Row::Block(layer, count) => {
                        let title = match layer {
                            Some(at) if self.stacks.is_one() => format!("Block {}", at.1),
                            Some(at) => self.stacks.title(at),
                            None => "Outside the blocks".to_owned(),
                        };
                        let response = block(ui, line, &title, count, !self.closed.contains(&layer));
                        if response.clicked() {
                            toggled = Some(layer);
                        }
                        focus = focus.or(response.has_focus().then_some((number, response.id)));
                    }
                    Row::Module(i) => {
                        let entry = &delta.entries()[i];
                        let spectrum = view.workspace.latest(&entry.name).map(AsRef::as_ref);
                        let failed = view.workspace.spectrum(&entry.name).and_then(|slot| slot.error());
                        let problem = entry.problem.clone().or_else(|| failed.map(ToString::to_string));
                        let selected = view.workspace.selection().contains(&entry.name);
                        let dtype =
                            view.workspace.base().and_then(|b| b.module(&entry.name)).map_or("", |m| m.dtype.name());
                        let response = module(ui, line, entry, spectrum, problem.as_deref(), selected, dtype);
                        if response.clicked() {
                            chosen = Some(entry.name.clone());
                        }
                        focus = focus.or(response.has_focus().then_some((number, response.id)));
                    }
                }
            }
        });
        if moved {
            // The line may have come into sight only now.
            ui.memory_mut(|memory| memory.request_focus(self.list_id.with(stop)));
        }
        if let Some((number, id)) = focus {
            self.arrows(ui, number, id, &mut toggled);
        }
        if let Some(layer) = toggled {
            if !self.closed.remove(&layer) {
                self.closed.insert(layer);
            }
            self.lay_out(delta);
        }
        if let Some(name) = chosen {
            let is_it = |row: &Row| matches!(row, Row::Module(i) if delta.entries()[*i].name == name);
            self.stop = self.rows.iter().position(is_it).unwrap_or(self.stop);
            let modifiers = ui.input(|i| i.modifiers);
            view.effects.push(Effect::Select(self.choose(delta, view.workspace.selection(), &name, modifiers)));
        }
        if ui.ui_contains_pointer() && ui.input(|i| i.modifiers.command && i.key_pressed(Key::A)) {
            let names = self.visible(delta).map(|e| e.name.clone()).collect();
            view.effects.push(Effect::Select(Selection::of(names)));
        }
    }

    /// Up and down go through the lines, Home and End to their ends; left and right close and open a block.
    fn arrows(&mut self, ui: &Ui, at: usize, id: Id, toggled: &mut Option<Option<Block>>) {
        self.stop = at;
        let mine = EventFilter { vertical_arrows: true, horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, mine));
        let pressed = |key: Key| ui.input(|i| i.num_presses(key));
        let last = self.rows.len().saturating_sub(1);
        let to = match (pressed(Key::Home) > 0, pressed(Key::End) > 0) {
            (true, _) => 0,
            (_, true) => last,
            _ => (at + pressed(Key::ArrowDown)).saturating_sub(pressed(Key::ArrowUp)).min(last),
        };
        if to != at {
            (self.stop, self.moved) = (to, true);
            ui.ctx().request_repaint();
        }
        if let Some(Row::Block(layer, _)) = self.rows.get(at) {
            let open = !self.closed.contains(layer);
            if pressed(if open { Key::ArrowLeft } else { Key::ArrowRight }) > 0 {
                *toggled = Some(*layer);
            }
        }
    }

    /// A click chooses one, with Ctrl adds or takes out, with Shift chooses all from the last one clicked.
    fn choose(&mut self, delta: &DeltaSet, now: &Selection, name: &str, modifiers: egui::Modifiers) -> Selection {
        let mut selection = now.clone();
        if modifiers.shift
            && let Some(anchor) = &self.anchor
        {
            let names: Vec<String> = self.visible(delta).map(|e| e.name.clone()).collect();
            let place = |wanted: &str| names.iter().position(|n| n == wanted);
            if let (Some(a), Some(b)) = (place(anchor), place(name)) {
                let mut range = names[a.min(b)..=a.max(b)].to_vec();
                if b < a {
                    range.reverse();
                }
                return Selection::of(range);
            }
        }
        self.anchor = Some(name.to_owned());
        if modifiers.command {
            selection.toggle(name);
            selection
        } else {
            Selection::one(name)
        }
    }
}

fn compile(filter: &str) -> Option<Result<Regex, String>> {
    let filter = filter.trim();
    if filter.is_empty() {
        return None;
    }
    let pattern = match filter.strip_prefix('/').and_then(|f| f.strip_suffix('/')) {
        Some(regex) => regex.to_owned(),
        // Every word must occur, in the order in which they stand in module names.
        None => filter.split_whitespace().map(regex::escape).collect::<Vec<_>>().join(".*"),
    };
    let built = RegexBuilder::new(&pattern).case_insensitive(true).size_limit(1 << 20).build();
    Some(built.map_err(|_| "not a regular expression".into()))
}

/// A line's place for the keyboard.
#[derive(Clone, Copy)]
struct Line {
    id: Id,
    /// Tab comes to this one; the arrow keys to the others.
    stop: bool,
}

impl Line {
    /// Room for the line. What gets the focus is scrolled to, and has a ring.
    fn place(self, ui: &mut Ui) -> (Rect, egui::Response) {
        let (rect, _) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::hover());
        let response = ui.interact(rect, self.id, sense(ui, self.id, self.stop));
        if response.gained_focus() {
            response.scroll_to_me(None);
        }
        if response.has_focus() {
            let ring = ui.visuals().selection.stroke;
            ui.painter().rect_stroke(rect, 4.0, ring, egui::StrokeKind::Inside);
        }
        (rect, response)
    }
}

fn block(ui: &mut Ui, line: Line, title: &str, count: usize, open: bool) -> egui::Response {
    let colors = Colors::of(ui);
    let (rect, response) = line.place(ui);
    response.widget_info(|| WidgetInfo::selected(egui::Role::Button, true, open, title));
    let painter = ui.painter();
    if response.hovered() || response.has_focus() {
        painter.rect_filled(rect, 4.0, ui.visuals().widgets.hovered.weak_bg_fill);
    }
    let center = Pos2::new(rect.left() + 9.0, rect.center().y);
    let d = 3.5;
    let arrow = if open {
        vec![center + vec2(-d, -d * 0.5), center + vec2(d, -d * 0.5), center + vec2(0.0, d * 0.8)]
    } else {
        vec![center + vec2(-d * 0.5, -d), center + vec2(d * 0.8, 0.0), center + vec2(-d * 0.5, d)]
    };
    painter.add(egui::Shape::convex_polygon(arrow, colors.weak, Stroke::NONE));
    let font = FontId::proportional(12.0);
    let at = Pos2::new(rect.left() + 20.0, rect.center().y);
    let text = painter.text(at, egui::Align2::LEFT_CENTER, title, font.clone(), ui.visuals().strong_text_color());
    let at = Pos2::new(text.right() + 8.0, rect.center().y);
    painter.text(at, egui::Align2::LEFT_CENTER, count.to_string(), FontId::proportional(11.0), colors.weak);
    response
}

fn module(
    ui: &mut Ui,
    line: Line,
    entry: &Entry,
    spectrum: Option<&Spectrum>,
    problem: Option<&str>,
    selected: bool,
    dtype: &str,
) -> egui::Response {
    let colors = Colors::of(ui);
    let (rect, response) = line.place(ui);
    response.widget_info(|| WidgetInfo::selected(egui::Role::Button, problem.is_none(), selected, &entry.name));
    if ui.is_rect_visible(rect) {
        let visuals = ui.visuals();
        let painter = ui.painter();
        if selected {
            painter.rect_filled(rect, 4.0, visuals.selection.bg_fill);
        } else if response.hovered() || response.has_focus() {
            painter.rect_filled(rect, 4.0, visuals.widgets.hovered.weak_bg_fill);
        }
        let spark = Rect::from_min_max(
            Pos2::new(rect.right() - 56.0, rect.top() + 5.0),
            Pos2::new(rect.right() - 6.0, rect.bottom() - 5.0),
        );
        let text = if selected { visuals.selection.stroke.color } else { visuals.text_color() };
        let left = Pos2::new(rect.left() + 20.0, rect.center().y);
        let name = short(&entry.name);
        let color = if problem.is_some() { colors.weak } else { text };
        let shape = units::shape(&entry.shape);
        let right = Pos2::new(spark.left() - 8.0, rect.center().y);
        let shape = painter.text(right, egui::Align2::RIGHT_CENTER, shape, FontId::proportional(10.5), colors.weak);
        // A long name ends in … before the shape begins.
        let mut job = LayoutJob::simple_singleline(name, FontId::proportional(12.5), color);
        job.wrap = TextWrapping::truncate_at_width((shape.left() - left.x - 6.0).max(24.0));
        let galley = painter.layout_job(job);
        painter.galley(left - vec2(0.0, galley.size().y / 2.0), galley, color);
        if problem.is_some() {
            painter.text(spark.center(), egui::Align2::CENTER_CENTER, "⚠", FontId::proportional(12.0), colors.warn);
        } else if let Some(spectrum) = spectrum {
            let color = if selected { visuals.selection.stroke.color } else { colors.accent };
            sparkline(painter, spark, spectrum, color);
        }
    }
    response.on_hover_ui(|ui| {
        ui.label(RichText::new(&entry.name).strong());
        ui.label(format!("{} · {} · {}", entry.role.label(), units::shape(&entry.shape), dtype));
        if let Some(problem) = problem {
            ui.label(RichText::new(problem).color(colors.warn));
        }
    })
}

/// The end of a name: what tells modules of one block apart.
fn short(name: &str) -> String {
    let mut dots = name.rmatch_indices('.');
    let Some((last, _)) = dots.next() else { return name.to_owned() };
    let part = &name[last + 1..];
    if let Some(expert) = expert_of(name).filter(|_| part.parse::<usize>().is_err()) {
        return format!("{expert} · {part}");
    }
    // `0` or `q` alone would say too little: there may be another in the same block.
    if part.len() < 3 || part.chars().all(|c| c.is_ascii_digit()) {
        return dots.next().map_or(name, |(i, _)| &name[i + 1..]).to_owned();
    }
    part.to_owned()
}

/// σ on a log axis from σ₁ down to a thousandth of it.
fn sparkline(painter: &egui::Painter, rect: Rect, spectrum: &Spectrum, color: egui::Color32) {
    const POINTS: usize = 24;
    const DECADES: f64 = 3.0;
    let sigma = &spectrum.sigma;
    let Some(&top) = sigma.first().filter(|&&s| s > 0.0) else { return };
    let n = sigma.len();
    let line: Vec<Pos2> = (0..POINTS)
        .map(|i| {
            let t = i as f32 / (POINTS - 1) as f32;
            let s = sigma[((n - 1) as f32 * t).round() as usize];
            let y = if s > 0.0 { (-(s / top).log10() / DECADES).clamp(0.0, 1.0) as f32 } else { 1.0 };
            Pos2::new(rect.left() + t * rect.width(), rect.top() + y * rect.height())
        })
        .collect();
    painter.add(egui::Shape::line(line, Stroke::new(1.2, color)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_take_words_and_expressions() {
        let hit = |filter: &str, name: &str| compile(filter).unwrap().unwrap().is_match(name);
        assert!(hit("3 Q_proj", "model.layers.3.self_attn.q_proj"));
        assert!(!hit("3 q_proj", "model.layers.4.self_attn.q_proj"));
        assert!(hit("/[qv]_proj$/", "model.layers.4.self_attn.v_proj"));
        assert!(compile("  ").is_none());
        assert!(compile("/(/").unwrap().is_err());
    }

    #[test]
    fn short_names_tell_modules_apart() {
        assert_eq!(short("model.layers.0.self_attn.q_proj"), "q_proj");
        assert_eq!(short("experts.0"), "experts.0");
        assert_eq!(short("lm_head"), "lm_head");
        assert_eq!(short("model.layers.0.mlp.experts.3.up_proj"), "3 · up_proj");
        assert_eq!(short("decoder.block.0.layer.1.EncDecAttention.q"), "EncDecAttention.q");
    }
}
