//! [`Rows`]: a list is one stop for Tab. Up and down, Home and End go through its rows; the one with the focus has a ring and is
//! scrolled to.

use eframe::egui::{
    EventFilter, Id, Key, Sense, StrokeKind, Ui, WidgetInfo, accesskit::Action, style::ScrollAnimation, vec2,
};

/// What row `id` of a list senses: Tab comes to the stop alone. The others can be clicked, and get the focus from arrows or from a
/// screen reader.
pub fn sense(ui: &Ui, id: Id, stop: bool) -> Sense {
    let asked = ui.input(|input| input.has_accesskit_action_request(id, Action::Focus));
    if asked {
        ui.memory_mut(|memory| memory.request_focus(id));
    }
    if stop || asked || ui.memory(|memory| memory.has_focus(id)) { Sense::click() } else { Sense::CLICK }
}

/// What is remembered of a list between frames.
#[derive(Clone, Copy, Debug, Default)]
struct Memory {
    /// The row that Tab comes to.
    stop: usize,
    /// The first and the last row that were painted.
    seen: Option<(usize, usize)>,
}

/// The rows of a list, by their place on the screen.
pub struct Rows {
    list: Id,
    last: usize,
    stop: usize,
    height: f32,
}

impl Rows {
    /// Of a list with this identity; rows are `height` apart.
    pub fn new(ui: &Ui, list: Id, count: usize, height: f32) -> Self {
        let last = count.saturating_sub(1);
        let Memory { stop, seen } = ui.data_mut(|data| std::mem::take(data.get_temp_mut_or_default::<Memory>(list)));
        // Out of sight, the stop is a row that is seen: Tab never leads to nothing.
        let stop = seen.map_or(stop, |(first, end)| stop.clamp(first, end)).min(last);
        ui.data_mut(|data| data.insert_temp(list, Memory { stop, seen: None }));
        Self { list, last, stop, height }
    }

    /// Inside of the first cell of row `at`: what screen readers name, and keys choose. `id_of` says who stands at a place. True when
    /// it was chosen.
    pub fn row(&self, ui: &Ui, at: usize, id_of: impl Fn(usize) -> Id, info: impl Fn() -> WidgetInfo) -> bool {
        let (rect, id) = (ui.max_rect(), id_of(at));
        let response = ui.interact(rect, id, sense(ui, id, at == self.stop));
        response.widget_info(info);
        let mut memory = Memory { stop: self.stop, seen: None };
        ui.data_mut(|data| {
            let known: &mut Memory = data.get_temp_mut_or_default(self.list);
            known.seen = Some(known.seen.map_or((at, at), |(first, end)| (first.min(at), end.max(at))));
            memory = *known;
        });
        if response.clicked() {
            memory.stop = at;
        }
        if response.gained_focus() {
            response.scroll_to_me(None);
        }
        if response.has_focus() {
            ui.painter().rect_stroke(rect, 3, ui.visuals().selection.stroke, StrokeKind::Inside);
            let mine = EventFilter { vertical_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(id, mine));
            let pressed = |key: Key| ui.input(|input| input.num_presses(key));
            let to = match (pressed(Key::Home) > 0, pressed(Key::End) > 0) {
                (true, _) => 0,
                (_, true) => self.last,
                _ => (at + pressed(Key::ArrowDown)).saturating_sub(pressed(Key::ArrowUp)).min(self.last),
            };
            memory.stop = to;
            if to != at {
                ui.memory_mut(|memory| memory.request_focus(id_of(to)));
                let there = rect.translate(vec2(0.0, (to as f32 - at as f32) * self.height));
                ui.scroll_to_rect_animation(there, None, ScrollAnimation::none());
                ui.ctx().request_repaint();
            }
        }
        ui.data_mut(|data| data.insert_temp(self.list, memory));
        response.clicked()
    }
}
