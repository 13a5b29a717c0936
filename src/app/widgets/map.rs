//! [`ModuleMap`]: every module as a cell, block by block and projection by projection, coloured by a number.

use eframe::egui::{
    Align2, Color32, EventFilter, FontId, Id, Key, Mesh, Pos2, Rect, Response, Sense, Shape, Stroke, StrokeKind, Ui,
    Vec2, WidgetInfo, accesskit::Role, pos2, vec2,
};

use super::heatmap::ink;
use super::legend::{self, Direction, SMALL, small};
use super::range::{Scale, ValueRange};
use super::tiles::Look;
use crate::figure::ColorMap;
use crate::figure::number;

/// What is known of a module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// There is no such module.
    Absent,
    /// Its number is not there yet.
    Pending,
    /// It has no number: it could not be computed, or the question has no answer.
    Unknown,
    /// Its number.
    Value(f64),
}

/// Blocks × projections. Blocks run along the longer side of the room there is.
pub struct ModuleMap<'a> {
    /// What it is a map of: its accessible name.
    pub title: &'a str,
    /// The stack that the blocks belong to; empty where there is one alone.
    pub stack: &'a str,
    /// Names of the blocks, short: their numbers.
    pub blocks: &'a [String],
    /// Names of the projections.
    pub projections: &'a [String],
    /// What is known of a module, by block and projection.
    pub cell: &'a dyn Fn(usize, usize) -> Cell,
    /// Whether it is selected.
    pub selected: &'a dyn Fn(usize, usize) -> bool,
    /// What the numbers are: `rank`.
    pub quantity: &'a str,
    /// Colours.
    pub map: ColorMap,
    /// The value of the last colour; the largest of this map where there is no other.
    pub most: Option<f64>,
    /// With a bar of the colours below it.
    pub legend: bool,
}

/// What happened, as block and projection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MapResponse {
    /// Clicked, or reached with an arrow key.
    pub chosen: Option<(usize, usize)>,
    /// Under the pointer.
    pub hovered: Option<(usize, usize)>,
}

/// Beyond this many cells they have no names of their own.
const NAMED: usize = 1000;
const GAP: f32 = 1.0;
/// Narrower cells have no gap between them.
const SEPARATE: f32 = 4.0;
/// No side of a cell is shorter, in points.
const SMALLEST: f32 = 1.0;
/// And none longer.
const WIDEST: f32 = 64.0;
const HIGHEST: f32 = 36.0;
const LEGEND: f32 = 42.0;

impl ModuleMap<'_> {
    /// Draws the map.
    pub fn ui(&self, ui: &mut Ui) -> MapResponse {
        let layout = Layout::new(ui, self);
        let (rect, _) = ui.allocate_exact_size(layout.size, Sense::hover());
        let id = ui.scope_id().with(("module map", self.title));
        let grid = Rect::from_min_size(rect.min + layout.corner, layout.grid());
        let response = ui.interact(grid, id, Sense::click());
        let at = |pos: Pos2| layout.index(pos - grid.min).filter(|&(b, p)| (self.cell)(b, p) != Cell::Absent);
        let hovered = response.hover_pos().or_else(|| ui.pointer_over(grid)).and_then(at);
        let mut chosen = response.interact_pointer_pos().filter(|_| response.clicked()).and_then(at);
        let look = self.look();
        if ui.is_rect_visible(rect) {
            self.paint(ui, &layout, grid, &look, hovered, &response);
        }
        if self.blocks.len() * self.projections.len() <= NAMED {
            chosen = chosen.or(self.cells(ui, id, &layout, grid));
        }
        chosen = chosen.or(self.keys(ui, &response, &layout));
        if let Some((b, p)) = hovered {
            response.clone().on_hover_ui_at_pointer(|ui| {
                ui.label(self.name(b, p));
            });
        }
        let count = self.blocks.len() * self.projections.len();
        response.widget_info(|| WidgetInfo {
            current_text_value: Some(format!("{count} module{}", if count == 1 { "" } else { "s" })),
            ..WidgetInfo::labeled(Role::Grid, ui.is_enabled(), self.title)
        });
        MapResponse { chosen, hovered }
    }

    /// What a module is called: `layer 3 q_proj: rank 12`.
    pub fn name(&self, block: usize, projection: usize) -> String {
        let value = match (self.cell)(block, projection) {
            Cell::Absent => "no such module".into(),
            Cell::Pending => "not computed yet".into(),
            Cell::Unknown => format!("{} unknown", self.quantity),
            Cell::Value(value) => format!("{} {}", self.quantity, number::short(value, 4)),
        };
        let stack = if self.stack.is_empty() { String::new() } else { format!("{} ", self.stack) };
        format!("{stack}layer {} {}: {value}", self.blocks[block], self.projections[projection])
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let all = (0..self.blocks.len()).flat_map(|b| (0..self.projections.len()).map(move |p| (b, p)));
        all.filter_map(|(b, p)| match (self.cell)(b, p) {
            Cell::Value(value) if value.is_finite() => Some(value),
            _ => None,
        })
    }

    /// How values are written in cells: all with as many decimals, whole numbers with none.
    fn written(&self) -> impl Fn(f64) -> String + use<> {
        let whole = self.values().all(|value| value.fract() == 0.0);
        let largest = self.values().fold(0.0_f64, |most, value| most.max(value.abs()));
        move |value| if whole { number::short(value, 3) } else { number::beside(value, largest, 3) }
    }

    fn look(&self) -> impl Fn(bool) -> Look + use<> {
        let largest = self.most.unwrap_or_else(|| self.values().fold(0.0_f64, |a, b| a.max(b.abs())));
        let high = if largest > 0.0 { largest as f32 } else { 1.0 };
        let low = if self.map.is_diverging() || self.values().any(|v| v < 0.0) { -high } else { 0.0 };
        let range = ValueRange { low, high, scale: Scale::Linear, clipped: false };
        let map = self.map;
        move |dark| Look { map, dark, range }
    }

    fn paint(
        &self,
        ui: &Ui,
        layout: &Layout,
        grid: Rect,
        look: &impl Fn(bool) -> Look,
        hovered: Option<(usize, usize)>,
        response: &Response,
    ) {
        let (painter, visuals) = (ui.painter(), ui.visuals());
        let look = look(visuals.dark_mode);
        let quiet = visuals.text_color().gamma_multiply(0.35);
        let mut mesh = Mesh::default();
        let mut over = vec![];
        let font = FontId::proportional(if layout.cell.x >= 34.0 { SMALL } else { 9.5 });
        // In all cells or in none.
        let write = self.written();
        let widest = self.values().map(|v| write(v).chars().count()).max().unwrap_or(0);
        let numbers = layout.cell.y >= 13.0 && layout.cell.x >= 7.0 * widest as f32 + 4.0;
        for b in 0..self.blocks.len() {
            for p in 0..self.projections.len() {
                let cell = layout.rect(grid.min, b, p);
                match (self.cell)(b, p) {
                    Cell::Absent => {}
                    Cell::Pending => {
                        over.push(Shape::rect_stroke(cell, 0, Stroke::new(1.0, quiet), StrokeKind::Inside));
                    }
                    Cell::Unknown => {
                        mesh.add_colored_rect(cell, quiet.gamma_multiply(0.5));
                        over.push(Shape::circle_filled(cell.center(), 1.5, visuals.text_color()));
                    }
                    Cell::Value(value) => {
                        let color = look.color(value as f32);
                        mesh.add_colored_rect(cell, color);
                        if numbers {
                            let (text, at) = (write(value), cell.center());
                            let shape = painter.fonts_mut(|fonts| {
                                Shape::text(fonts, at, Align2::CENTER_CENTER, text, font.clone(), ink(color))
                            });
                            over.push(shape);
                        }
                    }
                }
            }
        }
        painter.add(Shape::mesh(mesh));
        painter.extend(over);
        let outline = |at: (usize, usize), stroke: Stroke| {
            painter.rect_stroke(layout.rect(grid.min, at.0, at.1).expand(1.0), 1, stroke, StrokeKind::Outside);
        };
        for b in 0..self.blocks.len() {
            for p in (0..self.projections.len()).filter(|&p| (self.selected)(b, p)) {
                outline((b, p), Stroke::new(2.0, visuals.strong_text_color()));
            }
        }
        if let Some(at) = hovered {
            outline(at, Stroke::new(1.0, visuals.strong_text_color()));
        }
        if response.has_focus() {
            painter.rect_stroke(grid.expand(3.0), 2, visuals.selection.stroke, StrokeKind::Outside);
        }
        self.labels(ui, layout, grid, visuals.text_color());
        if !self.stack.is_empty() {
            let at = pos2(grid.left() - 6.0, grid.top() - 4.0);
            small(painter, at, Align2::RIGHT_BOTTOM, self.stack, visuals.weak_text_color());
        }
        if !self.legend {
            return;
        }
        let words =
            painter.layout_no_wrap(self.quantity.to_owned(), FontId::proportional(SMALL), Color32::WHITE).size().x;
        // The name of the quantity stands to the right of the bar, inside of what can be seen.
        let room = ui.clip_rect().right() - grid.left() - words - 10.0;
        let width = grid.width().min(240.0).min(room).max(40.0);
        let bar = Rect::from_min_size(pos2(grid.left(), grid.bottom() + 14.0), vec2(width, legend::THICKNESS));
        let marker = hovered.and_then(|(b, p)| match (self.cell)(b, p) {
            Cell::Value(value) => Some(value as f32),
            _ => None,
        });
        if self.values().next().is_some() {
            legend::paint(painter, visuals, bar, Direction::Horizontal, &look, marker);
            small(
                painter,
                bar.right_center() + vec2(8.0, 0.0),
                Align2::LEFT_CENTER,
                self.quantity,
                visuals.text_color(),
            );
        }
    }

    fn labels(&self, ui: &Ui, layout: &Layout, grid: Rect, color: Color32) {
        let painter = ui.painter();
        // Every so many blocks, so that their numbers do not touch.
        let room = if layout.across { layout.cell.x } else { layout.cell.y };
        let widest = self.blocks.iter().map(|b| b.len()).max().unwrap_or(1) as f32;
        let needed = if layout.across { 7.0 * widest + 6.0 } else { 12.0 };
        let every = [1, 2, 5, 10, 20, 50, 100].into_iter().find(|&n| n as f32 * room >= needed).unwrap_or(100);
        for (b, name) in self.blocks.iter().enumerate().step_by(every) {
            let cell = layout.rect(grid.min, b, 0);
            if layout.across {
                small(painter, pos2(cell.center().x, grid.top() - 4.0), Align2::CENTER_BOTTOM, name, color);
            } else {
                small(painter, pos2(grid.left() - 6.0, cell.center().y), Align2::RIGHT_CENTER, name, color);
            }
        }
        let room = if layout.across { layout.cell.y } else { f32::INFINITY };
        let every = [1, 2, 5, 10, 20, 50, 100].into_iter().find(|&n| n as f32 * room >= 11.0).unwrap_or(100);
        for (p, name) in self.projections.iter().enumerate().step_by(every) {
            let cell = layout.rect(grid.min, 0, p);
            if layout.across {
                small(painter, pos2(grid.left() - 6.0, cell.center().y), Align2::RIGHT_CENTER, name, color);
            } else {
                small(painter, pos2(cell.center().x, grid.top() - 4.0), Align2::CENTER_BOTTOM, name, color);
            }
        }
    }

    /// A named node for each cell; tab passes them by, the arrow keys do not.
    fn cells(&self, ui: &Ui, id: Id, layout: &Layout, grid: Rect) -> Option<(usize, usize)> {
        let mut chosen = None;
        for b in 0..self.blocks.len() {
            for p in 0..self.projections.len() {
                if (self.cell)(b, p) == Cell::Absent {
                    continue;
                }
                let response = ui.interact(layout.rect(grid.min, b, p), id.with((b, p)), Sense::CLICK);
                let selected = (self.selected)(b, p);
                response.widget_info(|| WidgetInfo::selected(Role::Button, ui.is_enabled(), selected, self.name(b, p)));
                if response.clicked() {
                    chosen = Some((b, p));
                }
            }
        }
        chosen
    }

    /// The neighbour of the selected cell that an arrow key asks for.
    fn keys(&self, ui: &Ui, response: &Response, layout: &Layout) -> Option<(usize, usize)> {
        if !response.has_focus() {
            return None;
        }
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(response.id, arrows));
        let presses = |key: Key| ui.input(|i| i.num_presses(key)) as i64;
        let mut step =
            [presses(Key::ArrowRight) - presses(Key::ArrowLeft), presses(Key::ArrowDown) - presses(Key::ArrowUp)];
        if !layout.across {
            step.swap(0, 1);
        }
        if step == [0, 0] {
            return None;
        }
        let all = (0..self.blocks.len()).flat_map(|b| (0..self.projections.len()).map(move |p| (b, p)));
        let Some((b, p)) = all.clone().find(|&(b, p)| (self.selected)(b, p)) else {
            return all.into_iter().find(|&(b, p)| (self.cell)(b, p) != Cell::Absent);
        };
        let ends = [self.blocks.len() as i64, self.projections.len() as i64];
        let (mut b, mut p) = (b as i64, p as i64);
        // Over gaps to the next module there is.
        loop {
            (b, p) = (b + step[0], p + step[1]);
            if !(0..ends[0]).contains(&b) || !(0..ends[1]).contains(&p) {
                return None;
            }
            if (self.cell)(b as usize, p as usize) != Cell::Absent {
                return Some((b as usize, p as usize));
            }
        }
    }
}

trait PointerOver {
    fn pointer_over(&self, rect: Rect) -> Option<Pos2>;
}

impl PointerOver for Ui {
    /// Where the pointer is, if it is over this part of this layer, whatever widgets lie on it.
    fn pointer_over(&self, rect: Rect) -> Option<Pos2> {
        self.rect_contains_pointer(rect).then(|| self.ctx().pointer_hover_pos()).flatten()
    }
}

/// Where the cells are.
struct Layout {
    /// Blocks run from left to right.
    across: bool,
    cell: Vec2,
    corner: Vec2,
    size: Vec2,
    count: [usize; 2],
}

impl Layout {
    fn new(ui: &Ui, map: &ModuleMap<'_>) -> Self {
        let room = ui.available_size();
        let count = [map.blocks.len(), map.projections.len()];
        let width = |names: &[String]| {
            let font = FontId::proportional(SMALL);
            let width =
                |name: &String| ui.painter().layout_no_wrap(name.clone(), font.clone(), Color32::WHITE).size().x;
            names.iter().map(width).fold(0.0, f32::max)
        };
        // Downwards only where the names of the projections fit side by side.
        let names = (width(map.projections) + 6.0) * count[1] as f32 + width(map.blocks) + 12.0;
        let across = room.x >= room.y || !room.y.is_finite() || names > room.x;
        let stack = width(&[map.stack.to_owned()]);
        let left = 8.0 + stack.max(if across { width(map.projections) } else { width(map.blocks) });
        let top = 18.0;
        let (columns, rows) = if across { (count[0], count[1]) } else { (count[1], count[0]) };
        let below = if map.legend { LEGEND } else { 8.0 };
        let free = vec2(room.x - left - 4.0, room.y - top - below);
        let side = |free: f32, n: usize| free / n.max(1) as f32;
        // Wide enough for the names of the projections above them.
        let least = if across { SMALLEST } else { width(map.projections) + 6.0 };
        // Cells of a small model grow with the room, up to a size at which they are still one picture.
        let most = if across { WIDEST } else { least.max(WIDEST) };
        // Cells shrink until all of them are seen; large ones stand on whole points.
        let whole = |side: f32| if side >= 6.0 { side.floor() } else { side };
        let cell =
            vec2(whole(side(free.x, columns).clamp(least, most)), whole(side(free.y, rows).clamp(SMALLEST, HIGHEST)));
        let size = vec2(left + cell.x * columns as f32 + 4.0, top + cell.y * rows as f32 + below);
        Self { across, cell, corner: vec2(left, top), size, count }
    }

    fn grid(&self) -> Vec2 {
        let [b, p] = self.count.map(|n| n as f32);
        if self.across { self.cell * vec2(b, p) } else { self.cell * vec2(p, b) }
    }

    fn rect(&self, origin: Pos2, block: usize, projection: usize) -> Rect {
        let (col, row) = if self.across { (block, projection) } else { (projection, block) };
        let corner = origin + self.cell * vec2(col as f32, row as f32);
        let inner = |side: f32| if side >= SEPARATE { side - GAP } else { side };
        Rect::from_min_size(corner, vec2(inner(self.cell.x), inner(self.cell.y)))
    }

    fn index(&self, at: Vec2) -> Option<(usize, usize)> {
        if at.x < 0.0 || at.y < 0.0 {
            return None;
        }
        let (col, row) = ((at.x / self.cell.x) as usize, (at.y / self.cell.y) as usize);
        let (block, projection) = if self.across { (col, row) } else { (row, col) };
        (block < self.count[0] && projection < self.count[1]).then_some((block, projection))
    }
}
