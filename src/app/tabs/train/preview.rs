//! The data as the model will see it: tokens, and which of them carry loss.

use eframe::egui::{self, Color32, RichText, Ui, text::LayoutJob, text::TextFormat};

use super::View;
use super::state::Action;
use crate::app::look::theme::Colors;
use crate::train::{Piece, Preview};
use crate::units;

/// What would make the data usable, as a button: a longer sequence, or the columns that the file has.
fn mend(ui: &mut Ui, view: &mut View<'_>) {
    let (outlook, Some(draft)) = (view.state.outlook(), view.state.draft()) else { return };
    let mut mended = draft.clone();
    let text = match (outlook.wanted, outlook.columns.as_slice()) {
        (Some(wanted), _) => {
            mended.settings.seq = wanted;
            format!("Set Sequence to {wanted}, the longest row")
        }
        (None, [asked, answered, ..]) if draft.settings.columns.is_empty() => {
            let columns = std::mem::take(&mut mended.settings.columns);
            mended.settings.columns = columns.with("prompt", asked).with("completion", answered);
            format!("Ask with “{asked}”, learn “{answered}”")
        }
        _ => return,
    };
    ui.add_space(4.0);
    let text = RichText::new(text).strong().color(ui.visuals().extreme_bg_color);
    if ui.add(egui::Button::new(text).fill(Colors::of(ui).accent)).clicked() {
        view.actions.push(Action::Set(Box::new(mended)));
    }
    if outlook.wanted.is_none() {
        let text = "Or choose on the left which column is asked and which is answered.";
        ui.label(RichText::new(text).color(Colors::of(ui).weak));
    }
}

/// Paints it.
pub fn ui(ui: &mut Ui, view: &mut View<'_>) {
    let slot = &view.state.outlook().preview;
    let colors = Colors::of(ui);
    if let Some(error) = slot.error() {
        ui.label(RichText::new("The data cannot be used").text_style(egui::TextStyle::Heading));
        ui.label(RichText::new(error.to_string()).color(colors.bad));
        mend(ui, view);
        return;
    }
    let Some(preview) = slot.latest() else {
        if slot.is_pending() {
            ui.label(RichText::new("Reading the data …").color(colors.weak));
        } else {
            ui.label(RichText::new("No data yet").text_style(egui::TextStyle::Heading));
            ui.label(
                RichText::new("Choose a data file on the left. Its rows appear here as the model will see them: which words it reads, and which it learns to predict.")
                    .color(colors.weak),
            );
        }
        return;
    };
    ui.label(RichText::new("The data as the model will see it").text_style(egui::TextStyle::Heading));
    facts(ui, preview);
    // The fewer are marked: a page all in colour says nothing.
    let marks = Marks { predicted: 2 * preview.predicted <= preview.tokens };
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        let (word, about, rest) = match marks.predicted {
            true => (
                " carries loss ",
                "the model is asked to predict it;",
                "the rest is only read. Shades tell tokens apart.",
            ),
            false => (
                " only read ",
                "carries no loss;",
                "the model is asked to predict all the rest. Shades tell tokens apart.",
            ),
        };
        let ground = marks.ground(ui, 0, marks.predicted);
        ui.label(RichText::new(word).small().background_color(ground).color(ui.visuals().text_color()));
        ui.label(RichText::new(about).small().color(colors.weak));
        ui.label(RichText::new(rest).small().color(colors.weak));
    });
    ui.add_space(4.0);
    for (at, row) in preview.first.iter().enumerate() {
        egui::Frame::new().fill(ui.visuals().panel_fill).inner_margin(8).corner_radius(6).show(ui, |ui| {
            ui.set_width(ui.available_width());
            let response = ui.add(egui::Label::new(layout(ui, row, marks)).wrap());
            response.on_hover_text(format!(
                "row {}: {} tokens, {} carry loss",
                at + 1,
                row.len(),
                row.iter().filter(|piece| piece.predicted).count()
            ));
        });
        ui.add_space(3.0);
    }
}

fn facts(ui: &mut Ui, preview: &Preview) {
    let colors = Colors::of(ui);
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 14.0;
        let mut fact = |text: String| ui.label(RichText::new(text).color(colors.weak));
        fact(format!("{} rows to train on", units::exact(preview.rows as u64)));
        if preview.held_out > 0 {
            fact(format!("{} held out", units::exact(preview.held_out as u64)));
        }
        fact(format!("{} tokens", units::exact(preview.tokens as u64)));
        let share = preview.predicted as f64 / preview.tokens.max(1) as f64;
        fact(format!("{} carry loss ({})", units::exact(preview.predicted as u64), units::percent(share)));
        fact(format!("longest {}", preview.longest));
    });
    if let Some(first) = preview.notes.first() {
        let [left_out, cut] = preview.unused.map(|count| units::exact(count as u64));
        let all = match preview.unused {
            [0, 0..=1] | [1, 0] => String::new(),
            [0, _] => format!("; {cut} rows are cut in all"),
            [_, 0] => format!("; {left_out} rows are left out in all"),
            _ => format!("; {cut} rows are cut in all, {left_out} left out"),
        };
        let text = RichText::new(format!("{first}{all}")).small().color(colors.warn);
        ui.label(text).on_hover_text(preview.notes.join("\n"));
    }
}

/// Which tokens stand on a colour.
#[derive(Clone, Copy)]
struct Marks {
    /// Those that carry loss; the others where most of them do.
    predicted: bool,
}

impl Marks {
    /// The ground of a token; two shades in turn, weak enough not to look like a selection.
    fn ground(self, ui: &Ui, at: usize, predicted: bool) -> Color32 {
        let colors = Colors::of(ui);
        let even = at.is_multiple_of(2);
        match (self.predicted, predicted) {
            (true, true) => colors.good.gamma_multiply(if even { 0.22 } else { 0.12 }),
            (true, false) => Color32::TRANSPARENT,
            (false, true) => ui.visuals().text_color().gamma_multiply(if even { 0.09 } else { 0.03 }),
            (false, false) => colors.warn.gamma_multiply(if even { 0.3 } else { 0.2 }),
        }
    }
}

fn layout(ui: &Ui, row: &[Piece], marks: Marks) -> LayoutJob {
    let font = egui::TextStyle::Body.resolve(ui.style());
    let (text, weak) = (ui.visuals().text_color(), Colors::of(ui).weak);
    let mut job = LayoutJob::default();
    for (at, piece) in row.iter().enumerate() {
        let background = marks.ground(ui, at, piece.predicted);
        let color = if piece.predicted { text } else { weak };
        let format = TextFormat { font_id: font.clone(), color, background, ..TextFormat::default() };
        // Line breaks would tear the row apart.
        job.append(&piece.text.replace('\n', "¶"), 0.0, format);
    }
    job
}
