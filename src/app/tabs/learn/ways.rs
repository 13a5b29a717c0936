//! Chapter 1: two questions, and a disk with many versions of one base.

use eframe::egui::{
    Align2, FontFamily, FontId, Rect, RichText, Sense, Slider, Stroke, StrokeKind, Ui, WidgetInfo, accesskit::Role,
    pos2, vec2,
};

use super::View;
use super::state::{Action, Chapter, DISK, Data, MOST, Moving, Ways, WaysEdit};
use crate::app::look::theme::{self, Colors};
use crate::units;

use super::parts::Part;
use super::pieces::{beside, choice, said, stage, weak};

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let ways = &view.state.ways;
    let (mut edit, mut data, mut moving) = (None, None, None);
    stage(ui, |ui| {
        beside(
            ui,
            |ui| {
                ui.label(RichText::new("What do the data teach?").strong());
                let of = [(Data::Domain, "a domain"), (Data::Task, "a task")];
                data = choice(ui, ways.data, &of).map(WaysEdit::Data);
                ui.add_space(2.0);
                row_of_data(ui, ways.data);
            },
            |ui| {
                ui.label(RichText::new("Which numbers may move?").strong());
                let of = [(Moving::All, "all parameters"), (Moving::Adapter, "an adapter, r = 8")];
                moving = choice(ui, ways.moving, &of).map(WaysEdit::Moving);
                ui.add_space(2.0);
                let [all, some] = ways.parameters();
                ui.label(format!("{} of {} numbers move", units::exact(some), units::exact(all)));
                weak(ui, format!("{} of LLaMA 7B", units::percent(some as f64 / all.max(1) as f64)));
            },
        );
        ui.add_space(10.0);
        ui.horizontal(|ui| {
            let label = ui.label("Tuned versions");
            let mut versions = ways.versions;
            ui.spacing_mut().slider_width = (ui.available_width() - 120.0).clamp(100.0, 300.0);
            if ui.add(Slider::new(&mut versions, 1..=MOST)).labelled_by(label.id).changed() {
                edit = Some(WaysEdit::Versions(versions));
            }
        });
        ui.add_space(2.0);
        disk(ui, ways);
    });
    let fits = if ways.total() <= DISK { "that fits" } else { "too much for" };
    let now = format!("{} versions take {}: {fits} 40 GB.", ways.versions, units::bytes(ways.total()));
    let truth = format!(
        "Domain and task say what is in the data; full and adapter say what moves. Any of the four pairs exists. Switch the data \
         above: still {}. Switch what may move, and that changes.",
        units::bytes(ways.total()),
    );
    beside(
        ui,
        |ui| super::goal(ui, view, Chapter::Ways, &now),
        |ui| said(ui, "there are full, domain and task tuning.", &truth),
    );
    if let Some(edit) = edit.or(data).or(moving) {
        view.actions.push(Action::Ways(edit));
    }
}

/// What else is often said.
pub fn more(ui: &mut Ui, view: &View<'_>) {
    let ways = &view.state.ways;
    let [whole, apart] = ways.serving();
    let serving = format!(
        "It needs what its base needs: merged, B A is inside the weights, and no token takes longer. Many versions are another \
         matter. Twenty tuned whole need {} of memory to answer at the same time; one base with twenty adapters needs {}.",
        units::bytes(whole),
        units::bytes(apart),
    );
    said(ui, "a tuned model needs more memory to run.", &serving);
}

/// A row of the data, with what is to be predicted in colour.
fn row_of_data(ui: &mut Ui, data: Data) {
    let (given, learnt) = match data {
        Data::Domain => ("", "Avast! The wind be fair and the hold be full, said the captain."),
        Data::Task => ("Who has the lamp? Ada gave Bruno a red lamp. →", "Bruno"),
    };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        if !given.is_empty() {
            weak(ui, given);
        }
        ui.label(RichText::new(learnt).color(Part::Delta.color(ui)));
    });
    let words = match data {
        Data::Domain => "The model learns to predict every token.",
        Data::Task => "Only the answer is to be predicted.",
    };
    weak(ui, words);
}

/// A shelf: the base, and the versions beside it, against the disk.
fn disk(ui: &mut Ui, ways: &Ways) {
    const BAR: f32 = 54.0;
    let colors = Colors::of(ui);
    let [base, version] = ways.bytes();
    let total = ways.total();
    let (room, response) = ui.allocate_exact_size(vec2(ui.available_width(), BAR + 42.0), Sense::hover());
    let said = format!(
        "On the disk: {} for the base, {} times {}, {} in all, of 40 GB",
        units::bytes(base),
        ways.versions,
        units::bytes(version),
        units::bytes(total)
    );
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &said));
    let most = (total.max(DISK) as f64 * 1.02) as f32;
    let x = |bytes: u64| room.left() + bytes as f32 / most * room.width();
    let bar = Rect::from_min_size(pos2(room.left(), room.top() + 20.0), vec2(room.width(), BAR));
    let painter = ui.painter();
    let disk = bar.with_max_x(x(DISK));
    painter.rect_filled(disk, 4, colors.line.gamma_multiply(0.6));
    let strong = FontId::new(13.0, FontFamily::Name(theme::STRONG.into()));
    let ink = ui.visuals().extreme_bg_color;
    let block = |from: u64, to: u64, color, name: &str| {
        // A hair between neighbours, where there is room for one.
        let rect = Rect::from_x_y_ranges(x(from)..=x(to), bar.y_range());
        let gap = (rect.width() * 0.2).min(1.5);
        let rect = rect.with_max_x(rect.right() - gap);
        painter.rect_filled(rect, (rect.width() * 0.2).min(4.0), color);
        let galley = painter.layout_no_wrap(name.to_owned(), strong.clone(), ink);
        if galley.size().x + 6.0 < rect.width() {
            let at = Align2::CENTER_CENTER.anchor_size(rect.center(), galley.size()).min;
            painter.galley(at, galley, ink);
        }
    };
    if base > 0 {
        block(0, base, Part::Base.color(ui), "W₀, shared");
    }
    for i in 0..ways.versions as u64 {
        let color = if base > 0 { Part::Delta.color(ui) } else { Part::Base.color(ui) };
        block(base + i * version, base + (i + 1) * version, color, &format!("{}", i + 1));
    }
    let full = total > DISK;
    let edge = if full { colors.bad } else { colors.good };
    painter.rect_stroke(disk.expand(2.0), 5, Stroke::new(1.5, edge), StrokeKind::Outside);
    let at = pos2(disk.right(), room.top() + 14.0);
    painter.text(at, Align2::RIGHT_BOTTOM, "disk of 40 GB", FontId::proportional(12.0), colors.weak);
    let text = match base {
        0 => format!("{} × {} = {}", ways.versions, units::bytes(version), units::bytes(total)),
        _ => {
            format!("{} + {} × {} = {}", units::bytes(base), ways.versions, units::bytes(version), units::bytes(total))
        }
    };
    let at = pos2(room.left(), bar.bottom() + 7.0);
    painter.text(at, Align2::LEFT_TOP, text, FontId::proportional(14.0), edge);
}
