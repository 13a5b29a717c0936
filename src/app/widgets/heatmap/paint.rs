//! How a heatmap looks: tiles, grid, numbers, cursor, axes, what is said instead of a picture.

use eframe::egui::{
    Align, Align2, Color32, FontId, Mesh, Painter, Rect, Shape, Stroke, StrokeKind, Visuals, epaint::TextShape, pos2,
    text::LayoutJob, vec2,
};

use super::super::legend::{SMALL, hairline, small};
use super::super::picture::Picture;
use super::super::tiles::{Area, Look};
use super::group::Blocks;
use super::model::{Heatmap, Status};
use super::view::{Projection, Spot};
use crate::figure::number;
use crate::units;

/// Cells larger than this are set apart by lines.
const GRID_FROM: f64 = 10.0;

/// The tiles, clipped to the frame. Tiles of another subject are drawn faintly: they are about to be replaced.
pub fn tiles(painter: &Painter, heatmap: &mut Heatmap, projection: &Projection) {
    let Some(levels) = heatmap.levels().cloned() else { return };
    let (stamp, wanted) = (heatmap.stamp(), heatmap.wanted().to_vec());
    let painter = painter.with_clip_rect(projection.frame.intersect(painter.clip_rect()));
    for tile in heatmap.tiles.draw(&wanted, stamp, &levels, &projection.area) {
        let tint = if tile.stamp.subject == stamp.subject { Color32::WHITE } else { Color32::from_white_alpha(70) };
        let (area, uv) = inside(tile.id.area(&levels), levels.shape());
        let mut mesh = Mesh::with_texture(tile.texture.id());
        mesh.add_rect_with_uv(projection.rect(&area), uv, tint);
        painter.add(Shape::mesh(mesh));
    }
}

/// The part of a tile that lies inside the matrix, and the part of its texture that shows it: the last texel may stand for fewer
/// cells than the others.
fn inside(area: Area, shape: [usize; 2]) -> (Area, Rect) {
    let cut = |[low, high]: [f64; 2], end: usize| [low, high.min(end as f64)];
    let share = |[low, high]: [f64; 2], end: usize| ((high.min(end as f64) - low) / (high - low)) as f32;
    let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(share(area.cols, shape[1]), share(area.rows, shape[0])));
    (Area { rows: cut(area.rows, shape[0]), cols: cut(area.cols, shape[1]) }, uv)
}

/// Lines between cells and the numbers in them, where there is room.
pub fn cells(painter: &Painter, picture: &dyn Picture, look: Option<&Look>, projection: &Projection) {
    let [height, width] = projection.cell();
    let least = height.min(width);
    if least < GRID_FROM {
        return;
    }
    let painter = painter.with_clip_rect(projection.frame.intersect(painter.clip_rect()));
    let shape = picture.levels().shape();
    let span = |[low, high]: [f64; 2], end: usize| (low.max(0.0) as usize)..(high.ceil() as usize).min(end);
    let (rows, cols) = (span(projection.area.rows, shape[0]), span(projection.area.cols, shape[1]));
    let strength = ((least - GRID_FROM) / GRID_FROM).clamp(0.0, 1.0) as f32;
    let line = Stroke::new(1.0, Color32::from_gray(128).gamma_multiply(0.35 * strength));
    for row in rows.clone().skip(1) {
        painter.hline(projection.frame.x_range(), projection.point(row as f64, 0.0).y, line);
    }
    for col in cols.clone().skip(1) {
        painter.vline(projection.point(0.0, col as f64).x, projection.frame.y_range(), line);
    }
    if !has_numbers(projection) {
        return;
    }
    let (size, digits) = if width >= 64.0 { (12.0, 3) } else { (10.0, 2) };
    let font = FontId::monospace(size);
    let largest = look.map_or(1.0, |look| f64::from(look.range.high.abs().max(look.range.low.abs())));
    // A cell that is cut by the frame keeps its colour and loses its number.
    let whole = projection.frame.shrink2(vec2(width as f32, height as f32) * 0.35);
    for row in rows {
        for col in cols.clone() {
            let at = projection.point(row as f64 + 0.5, col as f64 + 0.5);
            if whole.contains(at) {
                let value = picture.value(0, row, col);
                let ink = look.map_or(Color32::GRAY, |look| ink(look.color(value)));
                let text = number::beside(f64::from(value), largest, digits);
                painter.text(at, Align2::CENTER_CENTER, text, font.clone(), ink);
            }
        }
    }
}

/// Lines between cells of different blocks, where cells are set apart at all.
pub fn blocks(painter: &Painter, visuals: &Visuals, shape: [usize; 2], block: &Blocks<'_>, projection: &Projection) {
    let [height, width] = projection.cell();
    if height.min(width) < GRID_FROM {
        return;
    }
    let painter = painter.with_clip_rect(projection.frame.intersect(painter.clip_rect()));
    let span = |[low, high]: [f64; 2], end: usize| (low.max(0.0) as usize)..(high.ceil() as usize).min(end);
    let (rows, cols) = (span(projection.area.rows, shape[0]), span(projection.area.cols, shape[1]));
    let line = Stroke::new(1.5, visuals.strong_text_color());
    for row in rows {
        // Neighbours in a row are one line; the same for what lies below.
        let mut below: Option<usize> = None;
        for col in cols.start..=cols.end {
            let parted = col < cols.end && row + 1 < shape[0] && block(row, col) != block(row + 1, col);
            match (parted, below) {
                (true, None) => below = Some(col),
                (false, Some(first)) => {
                    let at = projection.point(row as f64 + 1.0, first as f64);
                    painter.hline(at.x..=projection.point(row as f64, col as f64).x, at.y, line);
                    below = None;
                }
                _ => {}
            }
            if col > cols.start && col < cols.end && block(row, col - 1) != block(row, col) {
                let at = projection.point(row as f64, col as f64);
                painter.vline(at.x, at.y..=projection.point(row as f64 + 1.0, col as f64).y, line);
            }
        }
    }
}

/// True when cells are so large that their numbers are written in them.
fn has_numbers(projection: &Projection) -> bool {
    let [height, width] = projection.cell();
    width >= 44.0 && height >= 16.0
}

/// Black or white, whichever reads better on this colour (W3C relative luminance).
pub fn ink(paper: Color32) -> Color32 {
    let linear = |x: u8| (f32::from(x) / 255.0).powf(2.2);
    let luminance = 0.2126 * linear(paper.r()) + 0.7152 * linear(paper.g()) + 0.0722 * linear(paper.b());
    if luminance > 0.19 { Color32::from_gray(16) } else { Color32::from_gray(240) }
}

/// Lines through the cursor, open around the texel that it is on.
pub fn crosshair(painter: &Painter, visuals: &Visuals, projection: &Projection, spot: &Spot) {
    let painter = painter.with_clip_rect(projection.frame.intersect(painter.clip_rect()));
    let span = |r: &std::ops::Range<usize>| [r.start as f64, r.end as f64];
    let [rows, cols] = &spot.covered;
    let texel = projection.rect(&Area { rows: span(rows), cols: span(cols) });
    let open = texel.expand2(vec2(6.0, 6.0));
    let center = texel.center();
    let frame = projection.frame;
    // A dark line beside a light one is seen on every colour. Lines would run through numbers.
    let lines = if has_numbers(projection) { 0 } else { 2 };
    for (shift, color) in [(0.0, Color32::from_gray(20)), (1.0, Color32::from_gray(235))].into_iter().take(lines) {
        let stroke = Stroke::new(1.0, color.gamma_multiply(0.55));
        painter.hline(frame.left()..=open.left(), center.y + shift, stroke);
        painter.hline(open.right()..=frame.right(), center.y + shift, stroke);
        painter.vline(center.x + shift, frame.top()..=open.top(), stroke);
        painter.vline(center.x + shift, open.bottom()..=frame.bottom(), stroke);
    }
    if texel.width().min(texel.height()) >= 6.0 {
        painter.rect_stroke(texel, 0, Stroke::new(1.5, visuals.strong_text_color()), StrokeKind::Outside);
    }
}

/// First and last visible index and the name of each axis, above and left of the frame.
pub fn axes(painter: &Painter, visuals: &Visuals, projection: &Projection, names: [&str; 2]) {
    let color = visuals.text_color();
    let ends =
        |[low, high]: [f64; 2]| [low.max(0.0).floor(), (high.ceil() - 1.0).max(0.0)].map(|x| units::exact(x as u64));
    let font = FontId::proportional(SMALL);
    let draw = |texts: [String; 3], vertical: bool| {
        let frame = projection.frame;
        let length = if vertical { frame.height() } else { frame.width() };
        let galleys = texts.map(|text| painter.layout_no_wrap(text, font.clone(), color));
        let [first, name, last] = galleys.each_ref().map(|g| g.size().x);
        let starts = [0.0, (length - name) / 2.0, length - last];
        let fits = [first + last + 8.0 <= length, first.max(last) * 2.0 + name + 16.0 <= length, true];
        for ((galley, start), fits) in galleys.into_iter().zip(starts).zip(fits) {
            if !fits {
                continue;
            }
            let thickness = galley.size().y;
            let text = if vertical {
                // Turned a quarter to the left: it reads upwards, so it starts at its lower end.
                let at = pos2(frame.left() - 4.0 - thickness, frame.top() + start + galley.size().x);
                TextShape::new(at, galley, color).with_angle(-std::f32::consts::FRAC_PI_2)
            } else {
                TextShape::new(pos2(frame.left() + start, frame.top() - 3.0 - thickness), galley, color)
            };
            painter.add(text);
        }
    };
    let [first, last] = ends(projection.area.cols);
    draw([first, format!("{} →", names[1]), last], false);
    let [first, last] = ends(projection.area.rows);
    draw([first, format!("← {}", names[0]), last], true);
}

/// The frame, and around it a ring when it has the keyboard.
pub fn frame(painter: &Painter, visuals: &Visuals, rect: Rect, focused: bool) {
    painter.rect_stroke(rect, 0, hairline(visuals), StrokeKind::Outside);
    if focused {
        painter.rect_stroke(rect.expand(2.0), 2, visuals.selection.stroke, StrokeKind::Outside);
    }
}

/// What is said instead of a picture (in the middle) or beside it (a badge in the corner).
pub fn status(painter: &Painter, visuals: &Visuals, rect: Rect, status: &Status, has_picture: bool) {
    let (text, color) = match status {
        Status::Ready if has_picture => return,
        Status::Ready => ("nothing to show", visuals.weak_text_color()),
        Status::Computing(text, _) | Status::Message(text) => (text.as_str(), visuals.text_color()),
        Status::Failed(text) => (text.as_str(), visuals.error_fg_color),
    };
    let progress = if let Status::Computing(_, done) = status { Some(*done) } else { None };
    if has_picture {
        let galley = painter.layout_no_wrap(text.to_owned(), FontId::proportional(SMALL), visuals.text_color());
        let ring = if progress.is_some() { 16.0 } else { 0.0 };
        let size = galley.size() + vec2(12.0 + ring, 6.0);
        let badge = Rect::from_min_size(rect.right_top() + vec2(-size.x - 6.0, 6.0), size);
        painter.rect_filled(badge, 4, visuals.window_fill().gamma_multiply(0.92));
        painter.rect_stroke(badge, 4, hairline(visuals), StrokeKind::Inside);
        if let Some(done) = progress {
            self::progress(painter, visuals, pos2(badge.left() + 12.0, badge.center().y), 5.0, done);
        }
        painter.galley(badge.min + vec2(6.0 + ring, 3.0), galley, color);
        return;
    }
    let room = (rect.width() - 24.0).max(40.0);
    let mut job = LayoutJob::simple(text.to_owned(), FontId::proportional(13.0), color, room);
    job.halign = Align::Center;
    let galley = painter.layout_job(job);
    let top = rect.center().y - galley.size().y / 2.0;
    if let Some(done) = progress {
        self::progress(painter, visuals, pos2(rect.center().x, top - 20.0), 9.0, done);
    }
    painter.galley(pos2(rect.center().x, top), galley, color);
}

/// A ring that fills with progress. It stands still until there is news: nothing here asks for another frame.
fn progress(painter: &Painter, visuals: &Visuals, center: eframe::egui::Pos2, radius: f32, done: Option<f32>) {
    painter.circle_stroke(center, radius, Stroke::new(2.0, visuals.weak_text_color().gamma_multiply(0.35)));
    let turn = done.unwrap_or(0.25).clamp(0.02, 1.0) * std::f32::consts::TAU;
    let points = (0..=32)
        .map(|i| {
            let angle = turn * i as f32 / 32.0 - std::f32::consts::FRAC_PI_2;
            center + radius * vec2(angle.cos(), angle.sin())
        })
        .collect();
    painter.line(points, Stroke::new(2.0, visuals.selection.stroke.color));
}

/// The title, and on the right a value or the shape. The right side gives way when there is no room.
pub fn header(painter: &Painter, visuals: &Visuals, rect: Rect, title: &str, right: &str, strong: bool) {
    let galley = painter.layout_no_wrap(title.to_owned(), FontId::proportional(13.0), visuals.strong_text_color());
    let y = rect.bottom() - galley.size().y;
    let room = rect.width() - galley.size().x - 8.0;
    painter.galley(pos2(rect.left(), y), galley, visuals.strong_text_color());
    let color = if strong { visuals.strong_text_color() } else { visuals.text_color() };
    let font = if strong { FontId::monospace(12.0) } else { FontId::proportional(SMALL) };
    let galley = painter.layout_no_wrap(right.to_owned(), font, color);
    if galley.size().x <= room {
        let at = rect.right_bottom() - galley.size() - vec2(0.0, 1.0);
        painter.galley(at, galley, color);
    }
}

/// One line of small print: what is under the pointer, or quietly what can be done.
pub fn footer(painter: &Painter, visuals: &Visuals, rect: Rect, text: &str, quiet: bool) {
    let color = if quiet { visuals.weak_text_color() } else { visuals.text_color() };
    small(painter, rect.left_center(), Align2::LEFT_CENTER, text, color);
}
