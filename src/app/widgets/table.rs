//! [`Table`]: rows that can be sorted, chosen and copied; numbers stand under each other.

use std::cmp::Ordering;
use std::sync::Arc;

use eframe::egui::{
    Align, Button, Color32, Label, Layout, RichText, ScrollArea, Sense, Stroke, TextStyle, TextWrapMode, Ui,
    WidgetInfo, accesskit::Role,
};
use egui_extras::{Column, TableBuilder};
use serde::{Deserialize, Serialize};

use super::rows::Rows;

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Its title.
    pub title: &'a str,
    /// Definition, formula and source: the tooltip of the title.
    pub tip: &'a str,
    /// Numbers stand to the right.
    pub number: bool,
    /// Least width, in points.
    pub width: f32,
}

/// What stands in a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// As it is read.
    pub text: String,
    /// As it is sorted; by the text where there is none.
    pub key: Option<f64>,
    /// More about it.
    pub tip: Option<String>,
    /// It is read from its beginning: where it is too long its end goes, not its middle.
    pub sentence: bool,
    /// A colour that says the same as the words.
    pub color: Option<Color32>,
    /// A small curve in place of the words, which then are its name.
    pub curve: Option<Arc<[f32]>>,
}

impl Entry {
    /// Words.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A sentence: all of it is under the pointer.
    pub fn sentence(text: impl Into<String>) -> Self {
        Self { text: text.into(), sentence: true, ..Self::default() }
    }

    /// A number and how it is written; `None` is an em dash and is sorted last.
    pub fn number(value: Option<f64>, write: impl Fn(f64) -> String) -> Self {
        match value {
            Some(value) => Self { text: write(value), key: Some(value), ..Self::default() },
            None => Self { text: "–".into(), key: Some(f64::NAN), ..Self::default() },
        }
    }

    /// In a colour that says the same as the words.
    pub fn colored(mut self, color: Color32) -> Self {
        self.color = Some(color);
        self
    }

    /// A small curve; `said` is read in its place, and sorted by.
    pub fn curve(curve: &Arc<[f32]>, said: impl Into<String>) -> Self {
        Self { text: said.into(), curve: Some(Arc::clone(curve)), ..Self::default() }
    }

    /// Adds a tooltip.
    pub fn tip(mut self, tip: impl Into<String>) -> Self {
        self.tip = Some(tip.into());
        self
    }
}

/// How a person has sorted the table: column, and whether the largest comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order(pub Option<(usize, bool)>);

/// A table of `rows` rows; cells are asked for as they are needed.
pub struct Table<'a> {
    /// Unique where it is shown.
    pub id: &'a str,
    /// Columns.
    pub heads: &'a [Head<'a>],
    /// Number of rows.
    pub rows: usize,
    /// A cell, by row and column.
    pub entry: &'a dyn Fn(usize, usize) -> Entry,
    /// The accessible name of a row.
    pub name: &'a dyn Fn(usize) -> String,
    /// Whether a row is selected.
    pub selected: &'a dyn Fn(usize) -> bool,
}

const ROW: f32 = 22.0;
/// What a column of numbers takes beyond its least width, where there is room.
const SPARE: f32 = 10.0;
/// Height that a bar for scrolling sideways takes.
const BAR: f32 = 10.0;

impl Table<'_> {
    /// Draws the table; returns the row that was clicked.
    pub fn ui(&self, ui: &mut Ui, order: &mut Order) -> Option<usize> {
        if ui.available_width() < self.least(ui) {
            let salt = ("sideways", self.id);
            return ScrollArea::horizontal()
                .id_salt(salt)
                .show(ui, |ui| {
                    let chosen = self.rows_ui(ui, order);
                    // Below the last row: the bar would lie on it.
                    ui.add_space(BAR);
                    chosen
                })
                .inner;
        }
        self.rows_ui(ui, order)
    }

    /// The width that its columns need.
    fn least(&self, ui: &Ui) -> f32 {
        self.heads.iter().map(|head| head.width + ui.spacing().item_spacing.x).sum()
    }

    /// The height that a table of so many rows takes where nothing is to be scrolled.
    pub fn height(ui: &Ui, rows: usize) -> f32 {
        (rows + 1) as f32 * (ROW + ui.spacing().item_spacing.y) + BAR
    }

    fn rows_ui(&self, ui: &mut Ui, order: &mut Order) -> Option<usize> {
        let rows = self.sorted(*order);
        // Where there is hardly room for all columns none takes more than it needs.
        let numbers = self.heads.iter().filter(|head| head.number).count();
        let ample = ui.available_width() > self.least(ui) + SPARE * numbers as f32;
        let mut chosen = None;
        // By the row's own number, so that the focus stays with it when the order changes.
        let id = ui.scope_id().with(("rows of", self.id));
        let stops = Rows::new(ui, id, rows.len(), ROW + ui.spacing().item_spacing.y);
        let mut builder = TableBuilder::new(ui)
            .id_salt((self.id, ample))
            .striped(true)
            .sense(Sense::CLICK)
            .cell_layout(Layout::left_to_right(Align::Center));
        for (i, head) in self.heads.iter().enumerate() {
            // Words take what room is left; a number far off to the right would be lost.
            let rest = i + 1 == self.heads.len() && !head.number;
            let column = match (rest, head.number) {
                (true, _) => Column::remainder(),
                (false, _) if !ample => Column::initial(head.width),
                // Numbers stand on the right of all the room there is: that says nothing of how much they need.
                (false, true) => Column::initial(head.width + SPARE),
                (false, false) => Column::auto(),
            };
            builder = builder.column(column.at_least(head.width).clip(true).resizable(i + 1 < self.heads.len()));
        }
        builder
            .header(ROW, |mut header| {
                for (i, head) in self.heads.iter().enumerate() {
                    header.col(|ui| self.title(ui, i, head, order));
                }
            })
            .body(|body| {
                body.rows(ROW, rows.len(), |mut row| {
                    let at = row.index();
                    let index = rows[at];
                    let selected = (self.selected)(index);
                    row.set_selected(selected);
                    let mut clicked = false;
                    for (i, head) in self.heads.iter().enumerate() {
                        let entry = (self.entry)(index, i);
                        row.col(|ui| {
                            if i == 0 {
                                let info = || WidgetInfo::selected(Role::Row, true, selected, (self.name)(index));
                                clicked = stops.row(ui, at, |at| id.with(rows[at]), info);
                            }
                            cell(ui, head, entry);
                        });
                    }
                    if clicked || row.response().clicked() {
                        chosen = Some(index);
                    }
                });
            });
        chosen
    }

    fn title(&self, ui: &mut Ui, index: usize, head: &Head<'_>, order: &mut Order) {
        let descending = order.0.filter(|&(column, _)| column == index).map(|(_, descending)| descending);
        let arrow = match descending {
            Some(true) => " ▾",
            Some(false) => " ▴",
            None => "",
        };
        side(ui, head.number, |ui| {
            let text = RichText::new(format!("{}{arrow}", head.title)).strong();
            let button = ui.add(Button::new(text).frame(false).wrap_mode(TextWrapMode::Extend));
            let button = if head.tip.is_empty() { button } else { button.on_hover_text(head.tip) };
            let button = button.accessible_name(format!("Sort by {}", head.title));
            if button.clicked() {
                // Largest first, then smallest first, then as it was; words the other way round.
                order.0 = match descending {
                    None => Some((index, head.number)),
                    Some(descending) if descending == head.number => Some((index, !descending)),
                    Some(_) => None,
                };
            }
        });
    }

    /// Rows in the order in which they are shown.
    pub fn sorted(&self, order: Order) -> Vec<usize> {
        let mut rows: Vec<usize> = (0..self.rows).collect();
        if let Some((column, descending)) = order.0.filter(|&(column, _)| column < self.heads.len()) {
            let keys: Vec<Entry> = rows.iter().map(|&row| (self.entry)(row, column)).collect();
            rows.sort_by(|&a, &b| compare(&keys[a], &keys[b], descending));
        }
        rows
    }

    /// The table as it is shown, separated by tabs, with titles.
    pub fn tsv(&self, order: Order) -> String {
        let clean = |text: &str| text.replace(['\t', '\n', '\r'], " ").replace('−', "-");
        let mut lines = vec![self.heads.iter().map(|h| clean(h.title)).collect::<Vec<_>>().join("\t")];
        for row in self.sorted(order) {
            let cells = (0..self.heads.len()).map(|column| clean(&(self.entry)(row, column).text));
            lines.push(cells.collect::<Vec<_>>().join("\t"));
        }
        lines.join("\n") + "\n"
    }
}

/// By number or else by text; what is not a number comes last either way.
fn compare(a: &Entry, b: &Entry, descending: bool) -> Ordering {
    let turn = |ordering: Ordering| if descending { ordering.reverse() } else { ordering };
    match (a.key, b.key) {
        (Some(a), Some(b)) => match (a.is_nan(), b.is_nan()) {
            (false, false) => turn(a.total_cmp(&b)),
            (a, b) => a.cmp(&b),
        },
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => turn(natord::compare(&a.text, &b.text)),
    }
}

fn side(ui: &mut Ui, right: bool, add: impl FnOnce(&mut Ui)) {
    if right {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.add_space(4.0);
            add(ui);
        });
    } else {
        ui.add_space(2.0);
        add(ui);
    }
}

/// A curve in all of the cell, from its least to its most.
fn curve(ui: &mut Ui, values: &[f32], said: &str) {
    const INSIDE: f32 = 4.0;
    let (rect, response) = ui.allocate_exact_size(ui.available_size(), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, said));
    let (low, high) = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
    let room = rect.shrink2(eframe::egui::vec2(2.0, INSIDE));
    let point = |(at, &value): (usize, &f32)| {
        let x = room.left() + room.width() * at as f32 / (values.len() - 1).max(1) as f32;
        eframe::egui::pos2(x, room.bottom() - room.height() * (value - low) / (high - low).max(f32::MIN_POSITIVE))
    };
    let line = values.iter().enumerate().map(point).collect();
    ui.painter().line(line, Stroke::new(1.2, ui.visuals().hyperlink_color));
    response.on_hover_text(said);
}

fn cell(ui: &mut Ui, head: &Head<'_>, entry: Entry) {
    if let Some(values) = entry.curve.as_ref().filter(|values| values.len() > 1) {
        return curve(ui, values, &entry.text);
    }
    side(ui, head.number, |ui| {
        if entry.sentence {
            let label = Label::new(RichText::new(&entry.text).small()).selectable(false).truncate();
            ui.add(label).on_hover_text(entry.tip.as_ref().unwrap_or(&entry.text));
            return;
        }
        let style = if head.number { TextStyle::Monospace } else { TextStyle::Body };
        let colored = |text: RichText| match entry.color {
            Some(color) => text.color(color),
            None => text,
        };
        let response = super::text::label(ui, &entry.text, |text| colored(text.text_style(style.clone())));
        if let Some(tip) = entry.tip {
            response.on_hover_text(tip);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [Head<'static>; 2] = [
        Head { title: "rule", tip: "", number: false, width: 80.0 },
        Head { title: "rank", tip: "", number: true, width: 60.0 },
    ];

    fn entry(row: usize, column: usize) -> Entry {
        let rows = [("layer 10", Some(3.0)), ("layer 9", None), ("layer\t1", Some(-12.0))];
        match column {
            0 => Entry::text(rows[row].0),
            _ => Entry::number(rows[row].1, |v| crate::figure::number::short(v, 3)),
        }
    }

    fn table() -> Table<'static> {
        Table {
            id: "t",
            heads: &HEADS,
            rows: 3,
            entry: &entry,
            name: &|row| format!("row {row}"),
            selected: &|_| false,
        }
    }

    #[test]
    fn rows_are_sorted_and_missing_numbers_come_last() {
        assert_eq!(table().sorted(Order(None)), [0, 1, 2]);
        assert_eq!(table().sorted(Order(Some((1, false)))), [2, 0, 1]);
        assert_eq!(table().sorted(Order(Some((1, true)))), [0, 2, 1]);
        assert_eq!(table().sorted(Order(Some((0, false)))), [2, 1, 0], "9 before 10");
        assert_eq!(table().sorted(Order(Some((7, true)))), [0, 1, 2]);
    }

    #[test]
    fn a_copied_table_is_clean() {
        assert_eq!(table().tsv(Order(Some((1, true)))), "rule\trank\nlayer 10\t3\nlayer 1\t-12\nlayer 9\t–\n");
    }
}
