//! The table of counts: a row for each rank, a column for each set of targets.

use eframe::egui::{Align, Label, Layout, RichText, Sense, Ui, WidgetInfo, accesskit::Role};
use egui_extras::{Column, TableBuilder};

use super::View;
use crate::app::effect::Effect;
use crate::app::look::theme::Colors;
use crate::app::widgets::rows::Rows;
use crate::units;

use super::model::{Counts, RANKS};

const ROW: f32 = 26.0;

/// Paints the table. For the open model a click on a row turns the dial.
pub fn ui(ui: &mut Ui, view: &mut View<'_>, counts: &Counts, dialed: bool) {
    let r = view.workspace.dial().r;
    let mut chosen = None;
    ui.spacing_mut().item_spacing.y = 0.0;
    ui.push_id("counts", |ui| {
        let list = ui.scope_id().with("rows");
        let stops = Rows::new(ui, list, RANKS.len(), ROW);
        TableBuilder::new(ui)
            .sense(Sense::CLICK)
            .vscroll(false)
            .cell_layout(Layout::left_to_right(Align::Center))
            .column(Column::exact(44.0))
            .columns(Column::remainder().at_least(110.0), counts.columns.len())
            .header(ROW, |mut header| {
                let mut title = |text: &str| {
                    header.col(|ui| {
                        right(ui, |ui| ui.label(RichText::new(text).small().color(Colors::of(ui).weak)));
                    });
                };
                title("r");
                counts.columns.iter().for_each(|column| title(column.title));
            })
            .body(|body| {
                body.rows(ROW, RANKS.len(), |mut row| {
                    let at = row.index();
                    let rank = RANKS[at];
                    row.set_selected(dialed && rank == r);
                    let mut clicked = false;
                    row.col(|ui| {
                        let info = || WidgetInfo::labeled(Role::Button, dialed, format!("Counts at rank {rank}"));
                        clicked = stops.row(ui, at, |at| list.with(at), info);
                        let number = Label::new(RichText::new(rank.to_string()).monospace()).selectable(false);
                        right(ui, |ui| ui.add(number));
                    });
                    for column in &counts.columns {
                        row.col(|ui| right(ui, |ui| cell(ui, column, rank)));
                    }
                    if (clicked || row.response().clicked()) && dialed {
                        chosen = Some(rank);
                    }
                });
            });
    });
    for column in &counts.columns {
        if let Err(error) = &column.selection {
            ui.label(RichText::new(format!("{}: {error}", column.title)).small().color(Colors::of(ui).weak));
        }
    }
    if let Some(rank) = chosen {
        let mut dial = view.workspace.dial().clone();
        dial.r = rank;
        view.effects.push(Effect::Turn(dial));
    }
}

/// Within a cell, not as the layout of cells: those would reach to the left over their neighbours, and take their pointer.
fn right<R>(ui: &mut Ui, add: impl FnOnce(&mut Ui) -> R) -> R {
    ui.with_layout(Layout::right_to_left(Align::Center), add).inner
}

fn cell(ui: &mut Ui, column: &super::model::Column, rank: usize) {
    let weak = Colors::of(ui).weak;
    match column.count(rank) {
        Some(count) => {
            let share = units::percent(count.percent / 100.0);
            ui.add(Label::new(RichText::new(share).small().color(weak)).selectable(false));
            let text = RichText::new(units::count(count.trainable)).monospace();
            ui.add(Label::new(text).selectable(false)).on_hover_text(format!(
                "{} trainable parameters, {} in 16 bit",
                units::exact(count.trainable),
                units::bytes(count.adapter_bytes_f16)
            ));
        }
        None => {
            ui.add(Label::new(RichText::new("–").color(weak)).selectable(false))
                .on_hover_text("There are no such modules, or none of them is so wide: a higher rank adds nothing");
        }
    }
}
