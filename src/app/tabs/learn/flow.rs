//! [`flow`]: blocks beside each other, centred, in as many lines as the width asks for.

use eframe::egui::{Rect, Sense, Ui, UiBuilder, Vec2, pos2, vec2};

/// Space between blocks.
pub const GAP: f32 = 14.0;

/// Takes room for blocks of these sizes and returns where each one stands. Blocks of one line share their middle.
pub fn flow(ui: &mut Ui, sizes: &[Vec2]) -> Vec<Rect> {
    let width = ui.available_width();
    let lines = lines(sizes, width);
    let heights: Vec<f32> =
        lines.iter().map(|line| sizes[line.clone()].iter().fold(0.0, |most: f32, s| most.max(s.y))).collect();
    let height = heights.iter().sum::<f32>() + GAP * lines.len().saturating_sub(1) as f32;
    let (room, _) = ui.allocate_exact_size(vec2(width, height), Sense::hover());
    let mut places = Vec::with_capacity(sizes.len());
    let mut top = room.top();
    for (line, height) in lines.into_iter().zip(heights) {
        let total = sizes[line.clone()].iter().map(|s| s.x).sum::<f32>() + GAP * (line.len() - 1) as f32;
        let mut left = room.left() + ((width - total) / 2.0).max(0.0).floor();
        for size in &sizes[line] {
            let at = pos2(left, (top + (height - size.y) / 2.0).floor());
            places.push(Rect::from_min_size(at, *size));
            left += size.x + GAP;
        }
        top += height + GAP;
    }
    places
}

/// Which blocks stand in which line.
fn lines(sizes: &[Vec2], width: f32) -> Vec<std::ops::Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut used) = (0, 0.0);
    for (i, size) in sizes.iter().enumerate() {
        let more = if i == start { size.x } else { GAP + size.x };
        if i > start && used + more > width {
            lines.push(start..i);
            (start, used) = (i, size.x);
        } else {
            used += more;
        }
    }
    if start < sizes.len() {
        lines.push(start..sizes.len());
    }
    lines
}

/// Adds something inside of a place, without moving what comes next.
pub fn within<R>(
    ui: &mut Ui,
    rect: Rect,
    salt: impl std::hash::Hash + std::fmt::Debug,
    add: impl FnOnce(&mut Ui) -> R,
) -> R {
    let mut child = ui.new_child(UiBuilder::new().max_rect(rect).id_salt(salt));
    add(&mut child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_go_to_the_next_line_when_there_is_no_room() {
        let sizes = [vec2(100.0, 10.0), vec2(50.0, 20.0), vec2(100.0, 10.0), vec2(300.0, 10.0)];
        assert_eq!(lines(&sizes, 1000.0).len(), 1);
        assert_eq!(lines(&sizes, 180.0), [0..2, 2..3, 3..4]);
        assert_eq!(lines(&sizes, 10.0), [0..1, 1..2, 2..3, 3..4]);
        assert!(lines(&[], 10.0).is_empty());
    }
}
