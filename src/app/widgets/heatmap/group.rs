//! [`Heatmaps`]: several heatmaps side by side that move together.

use std::sync::Arc;

use eframe::egui::{
    Context, EventFilter, Id, Key, Rect, Response, Sense, Ui, Vec2, WidgetInfo, accesskit::Role, pos2, vec2,
};

use super::super::legend::{self, Direction};
use super::super::picture::Picture;
use super::super::range::{RangeControl, ValueRange};
use super::super::tiles::{TileBatch, TileJob};
use super::layout::{FOOTER, LEFT, Layout, TITLE, stretch};
use super::model::{Heatmap, Shown, Status};
use super::paint;
use super::view::{Projection, Spot, View};
use crate::figure::ColorMap;
use crate::figure::number;
use crate::units;

/// How the heatmaps of a group are drawn.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Colours.
    pub map: ColorMap,
    /// Values at the ends of the colours.
    pub range: RangeControl,
    /// Names of rows and columns, as in `["out", "in"]`.
    pub axes: [&'a str; 2],
    /// More lines (name, value) about the texel under the pointer, in a tooltip.
    pub details: Option<&'a Details>,
    /// The owner says which cell is under the pointer: the line below the pictures then speaks only of pixels that are many cells.
    pub readout: bool,
    /// Cells belong together in blocks: the number of a cell's block, by row and column. Where cells are large enough to be set
    /// apart, blocks are set apart more strongly.
    pub blocks: Option<&'a Blocks<'a>>,
}

/// The number of a cell's block, by row and column.
pub type Blocks<'a> = dyn Fn(usize, usize) -> usize + 'a;

/// Lines (name, value) about a texel.
pub type Details = dyn Fn(&Spot) -> Vec<(String, String)>;

/// Heatmaps of matrices of the same shape, side by side: what is done to one is done to all.
///
/// The owner gives pictures, calls [`ui`](Self::ui), and while none of its jobs for this group is running it starts one with
/// [`required`](Self::required) (`tiles::run`) and hands the result to [`deliver`](Self::deliver). Let a running job finish: what it brings
/// is newer than what is on screen.
pub struct Heatmaps {
    /// What is seen and where the cursor is.
    pub view: View,
    maps: Vec<Heatmap>,
    id: Id,
}

impl Heatmaps {
    /// A group with these titles. `id` must be unique in the window.
    pub fn new<'a>(id: &str, titles: impl IntoIterator<Item = &'a str>) -> Self {
        let id = Id::unique(("heatmaps", id));
        let map = |(i, title): (usize, &str)| Heatmap::new(id.with(i), title.to_owned());
        Self { view: View::default(), maps: titles.into_iter().enumerate().map(map).collect(), id }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.maps.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }

    /// Shows a picture. `subject` says what it is of (a module, a method), `version` counts its changes (the rank): with the same
    /// subject the old tiles stay on screen until the new ones are there, with another they stay faintly. The same pair again costs nothing.
    pub fn show(&mut self, index: usize, subject: u64, version: u64, picture: Arc<dyn Picture>) {
        let Some(map) = self.maps.get_mut(index) else { return };
        if map.shown.as_ref().is_none_or(|s| (s.subject, s.version) != (subject, version)) {
            map.show(Some(Shown { picture, subject, version }));
        }
    }

    /// Shows no picture.
    pub fn hide(&mut self, index: usize) {
        if let Some(map) = self.maps.get_mut(index) {
            map.show(None);
        }
    }

    /// Says something instead of the picture, or beside it if there is one.
    pub fn set_status(&mut self, index: usize, status: Status) {
        if let Some(map) = self.maps.get_mut(index) {
            map.status = status;
        }
    }

    /// Another title.
    pub fn set_title(&mut self, index: usize, title: &str) {
        if let Some(map) = self.maps.get_mut(index)
            && map.title != title
        {
            map.title = title.to_owned();
        }
    }

    /// What is missing for what was last drawn; empty when all is there. Run it in a job.
    pub fn required(&self) -> Vec<TileJob> {
        self.maps.iter().filter_map(Heatmap::required).collect()
    }

    /// Takes coloured tiles. What has been overtaken is dropped.
    pub fn deliver(&mut self, ctx: &Context, batches: Vec<TileBatch>) {
        for batch in batches {
            if let Some(map) = self.maps.iter_mut().find(|m| m.id == batch.stamp.map) {
                map.deliver(ctx, batch);
            }
        }
    }

    /// True when everything on screen is up to date.
    pub fn is_complete(&self) -> bool {
        self.maps.iter().all(Heatmap::is_complete)
    }

    /// Frees all textures, for a group that is not on screen for long. They come back by themselves.
    pub fn release(&mut self) {
        for map in &mut self.maps {
            map.tiles.clear();
        }
    }

    /// The range in use, of the first heatmap that has one: what a manual range starts from.
    pub fn range(&self) -> Option<ValueRange> {
        self.maps.iter().find_map(|m| m.look).map(|l| l.range)
    }

    /// What is under the cursor.
    pub fn spot(&self) -> Option<Spot> {
        let cursor = self.view.cursor()?;
        self.maps.iter().find_map(|m| Spot::at(m.levels()?, m.level, cursor))
    }

    /// The value under the cursor.
    pub fn value(&self, index: usize) -> Option<f32> {
        let (map, spot) = (self.maps.get(index)?, self.spot()?);
        let picture = &map.shown.as_ref()?.picture;
        let of = picture.levels().get(map.level);
        let [row, col] = spot.texel;
        (row < of.rows && col < of.cols && map.level == spot.level).then(|| picture.value(map.level, row, col))
    }

    /// Draws the group into the room there is.
    pub fn ui(&mut self, ui: &mut Ui, options: &Options<'_>) -> Response {
        let shape = self.maps.iter().find_map(|m| m.levels().map(|l| l.shape())).unwrap_or([1, 1]);
        let layout = Layout::new(ui, self.maps.len(), shape, options.range.shared);
        let (rect, whole) = ui.allocate_exact_size(layout.size, Sense::hover());
        if !ui.is_rect_visible(rect) {
            return whole;
        }
        let frames: Vec<Rect> = (0..self.maps.len()).map(|i| layout.frame(rect, i, ui.pixels_per_point())).collect();
        let responses: Vec<Response> =
            self.maps.iter().zip(&frames).map(|(m, &f)| ui.interact(f, m.id, Sense::click_and_drag())).collect();
        let pointed = self.steer(ui, &responses, shape);
        self.paint(ui, options, &layout, rect, &responses, pointed);
        let response = pointed.map(|i| responses[i].clone());
        if let (Some(response), Some(spot), Some(details)) = (response, self.spot(), options.details) {
            let lines = details(&spot);
            if !lines.is_empty() {
                response.on_hover_ui_at_pointer(|ui| {
                    eframe::egui::Grid::new(self.id.with("details")).num_columns(2).spacing([12.0, 2.0]).show(
                        ui,
                        |ui| {
                            for (name, value) in lines {
                                ui.weak(name);
                                ui.monospace(value);
                                ui.end_row();
                            }
                        },
                    );
                });
            }
        }
        whole
    }

    /// Moves the view and the cursor; returns the heatmap under the pointer.
    fn steer(&mut self, ui: &Ui, responses: &[Response], shape: [usize; 2]) -> Option<usize> {
        let mut pointed = None;
        for (i, response) in responses.iter().enumerate() {
            let frame = response.rect;
            let largest = View::largest(shape, frame.size());
            let size = frame.size().max(Vec2::splat(1.0));
            // The matrix may have become smaller.
            self.view.zoom_at(1.0, [0.5, 0.5], largest);
            if response.clicked() {
                response.request_focus();
            }
            if response.double_clicked() {
                self.view.reset();
            }
            if response.dragged() {
                let delta = response.drag_delta();
                self.view.pan([f64::from(-delta.y / size.y), f64::from(-delta.x / size.x)]);
            }
            if response.has_focus() {
                self.keys(ui, response.id, largest);
            }
            if let Some(pos) = response.hover_pos().filter(|_| response.contains_pointer()) {
                let at = Projection { frame, area: self.view.area(shape) }.share(pos);
                let factor = wheel(ui, self.view.zoom());
                self.view.zoom_at(factor, at, largest);
                pointed = Some((i, pos));
            }
        }
        let cursor = pointed.map(|(i, pos)| {
            let projection = Projection { frame: responses[i].rect, area: self.view.area(shape) };
            let share = projection.share(pos);
            let span = |[low, high]: [f64; 2], t: f64, end: usize| (low + (high - low) * t) / end.max(1) as f64;
            [span(projection.area.rows, share[0], shape[0]), span(projection.area.cols, share[1], shape[1])]
        });
        self.view.set_cursor(cursor);
        pointed.map(|(i, _)| i)
    }

    fn keys(&mut self, ui: &Ui, id: Id, largest: f64) {
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|m| m.set_focus_lock_filter(id, arrows));
        let presses = |keys: &[Key]| ui.input(|i| keys.iter().map(|&k| i.num_presses(k)).sum::<usize>()) as f64;
        let down = presses(&[Key::ArrowDown]) - presses(&[Key::ArrowUp]);
        let right = presses(&[Key::ArrowRight]) - presses(&[Key::ArrowLeft]);
        self.view.pan([0.1 * down, 0.1 * right]);
        let closer = presses(&[Key::Plus, Key::Equals]) - presses(&[Key::Minus]);
        self.view.zoom_at(1.5_f64.powf(closer), [0.5, 0.5], largest);
        if presses(&[Key::Num0, Key::Home]) > 0.0 {
            self.view.reset();
        }
    }

    fn paint(
        &mut self,
        ui: &Ui,
        options: &Options<'_>,
        layout: &Layout,
        rect: Rect,
        responses: &[Response],
        pointed: Option<usize>,
    ) {
        let (painter, visuals) = (ui.painter(), ui.visuals());
        let leader = self.maps.iter().find_map(|m| m.shown.clone());
        let mut note = String::new();
        for (i, response) in responses.iter().enumerate() {
            let (map, frame) = (&mut self.maps[i], response.rect);
            let shape = map.levels().map_or([1, 1], |l| l.shape());
            let projection = Projection { frame, area: self.view.area(shape) };
            map.aim(
                &projection,
                ui.pixels_per_point(),
                leader.as_ref(),
                options.range,
                (options.map, visuals.dark_mode),
            );
            painter.rect_filled(frame, 0, visuals.extreme_bg_color);
            paint::tiles(painter, map, &projection);
            let has_picture = map.shown.is_some();
            if let Some(shown) = &map.shown {
                paint::cells(painter, &*shown.picture, map.look.as_ref(), &projection);
                if let Some(blocks) = options.blocks {
                    paint::blocks(painter, visuals, shape, blocks, &projection);
                }
                paint::axes(painter, visuals, &projection, options.axes);
            }
            paint::status(painter, visuals, frame, &map.status, has_picture);
            paint::frame(painter, visuals, frame, response.has_focus());
            let value = self.value(i);
            let map = &self.maps[i];
            let by = map
                .levels()
                .map(|l| format!("{} × {}", units::exact(l.shape()[0] as u64), units::exact(l.shape()[1] as u64)));
            let head =
                Rect::from_min_max(pos2(frame.left(), rect.top()), pos2(frame.right(), rect.top() + TITLE - 4.0));
            let right = value.map(|v| number::short(f64::from(v), 4)).or_else(|| by.clone()).unwrap_or_default();
            paint::header(painter, visuals, head, &map.title, &right, value.is_some());
            if let Some(spot) = self.spot().filter(|_| has_picture) {
                paint::crosshair(painter, visuals, &projection, &spot);
                if !(options.readout && spot.is_cell()) {
                    let by = map.shown.as_ref().map(|s| s.picture.reduction().name());
                    note = spot_text(&spot, by.unwrap_or_default());
                }
            }
            if let Some(look) = map.look.as_ref().filter(|_| !layout.shared) {
                let at = pos2(frame.left(), frame.bottom() + 8.0);
                let bar = Rect::from_min_size(at, vec2(frame.width(), legend::THICKNESS));
                legend::paint(painter, visuals, bar, Direction::Horizontal, look, value);
            }
            let name = format!("Heatmap {}", map.title);
            let spoken = spoken(map, by.as_deref(), value);
            response.widget_info(|| WidgetInfo {
                current_text_value: Some(spoken.clone()),
                ..WidgetInfo::labeled(Role::Image, ui.is_enabled(), &name)
            });
        }
        let look = self.maps.iter().find_map(|m| m.look);
        if let (Some(look), Some(last)) = (look.filter(|_| layout.shared), responses.last()) {
            let at = pos2(last.rect.right() + 14.0, last.rect.top());
            let bar = Rect::from_min_size(at, vec2(legend::THICKNESS, last.rect.height()));
            let marker = pointed.and_then(|i| self.value(i));
            legend::paint(painter, visuals, bar, Direction::Vertical, &look, marker);
        }
        let quiet = note.is_empty();
        if quiet {
            note = hint(leader.as_ref().map(|s| s.picture.levels().shape()), self.view.zoom());
            // The colours are those of what a pixel shows, and that is many cells.
            if let Some((shown, map)) = leader.as_ref().zip(self.maps.iter().find(|map| map.shown.is_some())) {
                let [rows, cols] = shown.picture.levels().get(map.level).cells();
                if rows * cols > 1 {
                    note = format!(
                        "a pixel and its colour: {} of {rows} × {cols} cells · {note}",
                        shown.picture.reduction().name()
                    );
                }
            }
        }
        let foot = Rect::from_min_max(pos2(rect.left() + LEFT, rect.bottom() - FOOTER), rect.right_bottom());
        paint::footer(painter, visuals, foot, &note, quiet);
    }
}

/// Pinch or wheel as a factor. At the outermost view a wheel turned back scrolls the page instead.
fn wheel(ui: &Ui, zoom: f64) -> f64 {
    let (pinch, scroll) = ui.input(|i| (i.zoom_delta(), i.smooth_scroll_delta()));
    if scroll.y != 0.0 && (scroll.y > 0.0 || zoom > 1.0) {
        ui.input_mut(|i| i.smooth_scroll_delta.y = 0.0);
        return f64::from(pinch) * f64::from(scroll.y / 160.0).exp();
    }
    f64::from(pinch)
}

fn spot_text(spot: &Spot, reduction: &str) -> String {
    let [rows, cols] = &spot.covered;
    let range = |r: &std::ops::Range<usize>| {
        let first = units::exact(r.start as u64);
        if r.len() == 1 { first } else { format!("{first}–{}", units::exact(r.end as u64 - 1)) }
    };
    let place = format!("row {} · column {}", range(rows), range(cols));
    if spot.is_cell() { place } else { format!("{place} · {reduction} of {} × {} cells", rows.len(), cols.len()) }
}

fn hint(shape: Option<[usize; 2]>, zoom: f64) -> String {
    let Some(shape) = shape else { return String::new() };
    let stretch = stretch(shape);
    let mut text = match zoom {
        z if z > 1.0 => format!("{} × closer · double-click for the whole matrix", number::short(z, 2)),
        _ => "Drag to move, wheel to zoom".to_owned(),
    };
    if !(0.99..1.01).contains(&stretch) {
        let (factor, way) = if stretch > 1.0 { (stretch, "wider") } else { (1.0 / stretch, "taller") };
        text = format!("Not to scale: cells are {} × {way} · {text}", number::short(factor, 2));
    }
    text
}

fn spoken(map: &Heatmap, by: Option<&str>, value: Option<f32>) -> String {
    let mut text = match (&map.status, by) {
        (Status::Failed(why) | Status::Message(why), None) => why.clone(),
        (Status::Computing(what, _), None) => what.clone(),
        (_, None) => "nothing to show".into(),
        (Status::Computing(what, _), Some(by)) => format!("{by}, {what}"),
        (_, Some(by)) => by.to_owned(),
    };
    if let Some(look) = &map.look {
        let [low, high] = [look.range.low, look.range.high].map(|v| number::short(f64::from(v), 3));
        text += &format!(", colours from {low} to {high}");
    }
    if let Some(value) = value {
        text += &format!(", under the pointer {}", number::short(f64::from(value), 4));
    }
    text
}
