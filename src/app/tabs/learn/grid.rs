//! [`Grid`]: a small matrix with a name in the colour of its part. Each cell has a name and a value for a screen reader; cells
//! that can be edited are number fields: dragged, typed into, stepped by the arrow keys.

use eframe::egui::{
    Align2, Color32, CornerRadius, CursorIcon, DragValue, FontFamily, FontId, Rect, Sense, Stroke, StrokeKind,
    TextStyle, Ui, Vec2, WidgetInfo, accesskit::Role, pos2, vec2,
};

use crate::app::look::theme;
use crate::figure::number;

use super::flow::within;
use super::parts::Part;

/// Between cells.
const GAP: f32 = 4.0;
/// Room for a bracket at each side.
const BRACKET: f32 = 9.0;
/// Room for the name above.
const TITLE: f32 = 26.0;

/// A cell of the usual size.
pub const CELL: Vec2 = vec2(50.0, 38.0);

/// A small matrix.
pub struct Grid<'a> {
    /// The name above it, and in the names of its cells.
    pub name: &'a str,
    /// Its colour.
    pub part: Part,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// The value of a cell.
    pub value: &'a dyn Fn(usize, usize) -> f64,
    /// Whether cells can be edited.
    pub edit: bool,
    /// The magnitude that gets the strongest colour.
    pub scale: f64,
    /// Cells with a frame around them.
    pub framed: &'a dyn Fn(usize, usize) -> bool,
    /// The size of a cell.
    pub cell: Vec2,
}

/// A cell that was edited: row, column, the new value.
pub type Edit = (usize, usize, f64);

impl<'a> Grid<'a> {
    /// One that only shows.
    pub fn new(name: &'a str, part: Part, shape: [usize; 2], value: &'a dyn Fn(usize, usize) -> f64) -> Self {
        Self { name, part, shape, value, edit: false, scale: 1.0, framed: &|_, _| false, cell: CELL }
    }

    /// One whose cells can be edited.
    pub fn edit(mut self) -> Self {
        self.edit = true;
        self
    }

    /// The magnitude that gets the strongest colour.
    pub fn scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Which cells get a frame.
    pub fn framed(mut self, framed: &'a dyn Fn(usize, usize) -> bool) -> Self {
        self.framed = framed;
        self
    }

    /// Other cells.
    pub fn cell(mut self, cell: Vec2) -> Self {
        self.cell = cell;
        self
    }

    /// The room that it takes.
    pub fn size(&self) -> Vec2 {
        let [rows, cols] = self.shape.map(|n| n as f32);
        let cells = vec2(cols * (self.cell.x + GAP) - GAP, rows * (self.cell.y + GAP) - GAP);
        cells + vec2(2.0 * BRACKET, TITLE + GAP)
    }

    /// Where a cell stands, when the whole stands at `rect`.
    pub fn place(&self, rect: Rect, row: usize, col: usize) -> Rect {
        let step = self.cell + Vec2::splat(GAP);
        let min = rect.min + vec2(BRACKET, TITLE) + vec2(col as f32 * step.x, row as f32 * step.y);
        Rect::from_min_size(min, self.cell)
    }

    /// Paints it at `rect`; says what was edited.
    pub fn ui(&self, ui: &mut Ui, rect: Rect) -> Option<Edit> {
        within(ui, rect, self.name, |ui| self.paint(ui, rect, true))
    }

    /// The same without the name above it: something else stands there.
    pub fn untitled(&self, ui: &mut Ui, rect: Rect) -> Option<Edit> {
        within(ui, rect, self.name, |ui| self.paint(ui, rect, false))
    }

    fn paint(&self, ui: &mut Ui, rect: Rect, title: bool) -> Option<Edit> {
        let color = self.part.color(ui);
        if title {
            let title = FontId::new(15.0, FontFamily::Name(theme::STRONG.into()));
            ui.painter().text(pos2(rect.center().x, rect.top() + 9.0), Align2::CENTER_CENTER, self.name, title, color);
        }
        brackets(ui, rect.with_min_y(rect.top() + TITLE - GAP), color);
        for style in [TextStyle::Button, TextStyle::Monospace] {
            ui.style_mut().text_styles.insert(style, FontId::proportional(self.cell.y * 0.4));
        }
        ui.spacing_mut().interact_size = self.cell;
        ui.spacing_mut().button_padding = vec2(1.0, 1.0);
        let mut edited = None;
        for row in 0..self.shape[0] {
            for col in 0..self.shape[1] {
                let place = self.place(rect, row, col);
                let value = (self.value)(row, col);
                let fill = tint(color, value / self.scale.max(1e-12));
                if self.edit {
                    edited =
                        field(ui, place, color, fill, value, &self.label(row, col)).map(|v| (row, col, v)).or(edited);
                } else {
                    ui.painter().rect_filled(place, 5, fill);
                    let text = written(value);
                    let font = FontId::proportional(fitting(self.cell, &text));
                    let ink = ui.visuals().text_color();
                    ui.painter().text(place.center(), Align2::CENTER_CENTER, &text, font, ink);
                    let response = ui.interact(place, ui.scope_id().with((self.name, row, col)), Sense::hover());
                    let said = format!("{}: {text}", self.label(row, col));
                    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &said));
                }
                if (self.framed)(row, col) {
                    ui.painter().rect_stroke(place, 5, Stroke::new(2.0, color), StrokeKind::Inside);
                }
            }
        }
        edited
    }

    /// `ΔW row 1 column 2`; a column or row alone counts its numbers.
    fn label(&self, row: usize, col: usize) -> String {
        match self.shape {
            [1, _] => format!("{} {}", self.name, col + 1),
            [_, 1] => format!("{} {}", self.name, row + 1),
            _ => format!("{} row {} column {}", self.name, row + 1, col + 1),
        }
    }
}

/// A cell that takes a number.
fn field(ui: &mut Ui, place: Rect, color: Color32, fill: Color32, value: f64, name: &str) -> Option<f64> {
    let widgets = &mut ui.visuals_mut().widgets;
    for (state, strength) in [(&mut widgets.inactive, 0.55), (&mut widgets.hovered, 0.9), (&mut widgets.active, 1.0)] {
        state.weak_bg_fill = fill;
        state.bg_fill = fill;
        state.bg_stroke = Stroke::new(1.0, color.gamma_multiply(strength));
        state.corner_radius = CornerRadius::same(5);
    }
    let mut new = value;
    let field = DragValue::new(&mut new)
        .speed(0.05)
        .range(-99.0..=99.0)
        .max_decimals(3)
        .custom_formatter(|value, _| number::short(value, 3))
        .custom_parser(|text| text.trim().replace('−', "-").replace(',', ".").parse().ok());
    let response = ui.put(place, field).on_hover_cursor(CursorIcon::ResizeHorizontal);
    let changed = response.changed();
    response.accessible_name(name);
    // To the thousandth, as it is shown: 0.1 + 0.2 is 0.3 here, and no edit.
    let thousandth = |value: f64| (value * 1000.0).round() / 1000.0;
    (changed && thousandth(new) != thousandth(value)).then(|| thousandth(new))
}

/// With three digits, or two where that would be long.
fn written(value: f64) -> String {
    let text = number::short(value, 3);
    if text.chars().count() > 5 { number::short(value, 2) } else { text }
}

/// A font size at which the text fits into a cell.
fn fitting(cell: Vec2, text: &str) -> f32 {
    let room = (cell.x - 4.0) / (text.chars().count().max(1) as f32 * 0.6);
    room.min(cell.y * 0.4)
}

/// The part's colour, the stronger the larger the magnitude; a share over 1 counts as 1.
fn tint(color: Color32, share: f64) -> Color32 {
    color.gamma_multiply(0.07 + 0.38 * share.abs().min(1.0) as f32)
}

fn brackets(ui: &Ui, rect: Rect, color: Color32) {
    let stroke = Stroke::new(1.5, color);
    let painter = ui.painter();
    for (x, inward) in [(rect.left() + 2.0, 5.0), (rect.right() - 2.0, -5.0)] {
        painter.vline(x, rect.y_range(), stroke);
        for y in [rect.top(), rect.bottom()] {
            painter.hline(if inward > 0.0 { x..=x + inward } else { x + inward..=x }, y, stroke);
        }
    }
}

/// `+`, `=`, `·` between matrices, in the middle of their cells.
pub fn sign(ui: &Ui, rect: Rect, text: &str) {
    let at = rect.center() + vec2(0.0, (TITLE - GAP) / 2.0);
    ui.painter().text(at, Align2::CENTER_CENTER, text, FontId::proportional(22.0), ui.visuals().text_color());
}

/// The room that a sign takes.
pub fn sign_size() -> Vec2 {
    vec2(14.0, 40.0)
}
