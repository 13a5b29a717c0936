//! The Parameters tab: what a rank costs, in parameters and in memory, and which rank to choose.

mod areas;
mod bars;
mod measured;
mod memory;
mod methods;
mod model;
mod modules;
mod paper;
mod probe;
mod ranks;
mod scales;
mod state;
mod table;

use std::sync::{Arc, LazyLock};

use eframe::egui::{ComboBox, Layout, RichText, ScrollArea, Ui};

use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::app::tabs::{Part, Tab};
use crate::app::view::{self, Round};
use crate::app::widgets::menu::Take;
use crate::app::widgets::text::middle;
use crate::app::work::export::{Chapter, Source};
use crate::job::{Running, Wake};
use crate::plan::{self, Layout as Model, Preset, Selection, Targets};
use crate::units;
use crate::workspace::Workspace;

use model::{Bar, Counts};
use state::{Action, Planning};

/// What the views of this tab look at.
type View<'a> = view::View<'a, Planning, Action>;

/// GPT-3 as the LoRA paper tunes it.
const GPT3: &str = "gpt3-175b";

static GPT3_COUNTS: LazyLock<Option<Counts>> = LazyLock::new(|| Model::preset(GPT3).ok().map(|m| Counts::of(&m)));

/// The parts of the tab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Counts,
    Modules,
    Paper,
    Memory,
    Ranks,
    Probe,
    Scales,
}

impl Section {
    const ALL: [(Self, Part, &'static str); 7] = [
        (
            Self::Counts,
            Part { id: "counts", title: "Counts" },
            "Trainable parameters by rank and target set; 175B against 4.7M",
        ),
        (Self::Modules, Part { id: "modules", title: "Modules" }, "The same for each module"),
        (
            Self::Paper,
            Part { id: "paper", title: "The paper" },
            "Every way the LoRA paper tunes GPT-3; quality against parameters",
        ),
        (Self::Memory, Part { id: "memory", title: "Memory" }, "Full, LoRA and QLoRA against real GPUs"),
        (Self::Ranks, Part { id: "ranks", title: "Ranks" }, "The best rank of every module under a budget"),
        (
            Self::Probe,
            Part { id: "probe", title: "Probe & data" },
            "Gradients before any training; data against capacity",
        ),
        (Self::Scales, Part { id: "scales", title: "Check" }, "Is anything wrong with an adapter's scaling?"),
    ];
}

/// What the tab remembers between frames.
#[derive(Default)]
struct Looks {
    section: Section,
    key: Option<(u64, Option<&'static str>)>,
    layout: Option<Arc<Model>>,
    counts: Option<Counts>,
    selection: Option<(Targets, Option<Selection>)>,
    preset: Option<&'static Preset>,
    methods: methods::Methods,
    modules: modules::Modules,
    paper: paper::Paper,
    memory: memory::MemoryTab,
    ranks: ranks::RanksTab,
    probe: probe::ProbeTab,
    scales: scales::Scales,
}

/// The tab.
pub struct ParametersTab {
    state: Planning,
    actions: Vec<Action>,
    looks: Looks,
}

impl ParametersTab {
    /// Nothing yet; `wake` makes the window look again.
    pub fn new(wake: &Wake) -> Self {
        Self { state: Planning::new(Arc::clone(wake)), actions: Vec::new(), looks: Looks::default() }
    }
}

impl Tab for ParametersTab {
    fn id(&self) -> &'static str {
        "parameters"
    }

    fn title(&self) -> &'static str {
        "Parameters"
    }

    fn parts(&self) -> Vec<Part> {
        Section::ALL.map(|(_, part, _)| part).to_vec()
    }

    fn show(&mut self, part: &str, _: &mut Round<'_>) {
        let found = Section::ALL.into_iter().find(|(_, known, _)| known.id == part);
        self.looks.section = found.map_or(self.looks.section, |(section, ..)| section);
    }

    fn logic(&mut self, round: &mut Round<'_>) {
        for action in std::mem::take(&mut self.actions) {
            self.state.carry_out(action, round);
        }
        self.state.logic(round);
        self.looks.logic(round.workspace, &self.state);
    }

    fn ui(&mut self, ui: &mut Ui, view: &mut view::View<'_>) {
        view.within(&self.state, &mut self.actions, |view| self.looks.ui(ui, view));
    }

    fn report(&self, round: &Round<'_>) -> Option<Chapter> {
        self.state.report(round)
    }

    fn running(&self) -> Vec<&dyn Running> {
        self.state.running()
    }

    fn is_busy(&self) -> bool {
        self.state.is_following() || !self.state.running().is_empty()
    }

    fn shows_spectra(&self) -> bool {
        true
    }
}

impl Looks {
    /// Counts anew when another model is open or chosen, or other targets.
    fn logic(&mut self, workspace: &Workspace, planning: &Planning) {
        self.preset = planning.preset();
        let key = (workspace.generation(), self.preset.map(|p| p.id));
        if self.key != Some(key) {
            self.key = Some(key);
            self.layout = match self.preset {
                Some(preset) => Some(Arc::new(preset.layout())),
                None => workspace.layout().cloned(),
            };
            self.counts = self.layout.as_ref().map(|layout| Counts::of(layout));
            self.selection = None;
        }
        let targets = &workspace.dial().targets;
        if self.selection.as_ref().is_none_or(|(known, _)| known != targets) {
            let selection = self.layout.as_ref().and_then(|layout| Selection::new(layout, targets).ok());
            self.selection = Some((targets.clone(), selection));
        }
    }

    /// Paints the tab.
    fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal_wrapped(|ui| {
            self.model(ui, view);
            ui.separator();
            for (section, Part { title: name, .. }, tip) in Section::ALL {
                if ui.selectable_label(self.section == section, name).on_hover_text(tip).clicked() {
                    self.section = section;
                }
            }
        });
        ui.add_space(4.0);
        match self.section {
            Section::Counts => {
                ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                    // The bar for scrolling lies over the right edge.
                    ui.set_max_width(ui.available_width() - 12.0);
                    if ui.available_width() > 860.0 {
                        ui.spacing_mut().item_spacing.x = 32.0;
                        ui.columns(2, |columns| {
                            columns.iter_mut().for_each(|column| column.spacing_mut().item_spacing.x = 8.0);
                            // Columns would set their text flush on both sides.
                            columns[0].vertical(|ui| self.counts_ui(ui, view));
                            columns[1].vertical(|ui| against(ui, view));
                        });
                    } else {
                        self.counts_ui(ui, view);
                        ui.add_space(20.0);
                        against(ui, view);
                    }
                });
            }
            Section::Modules => {
                if let Some(layout) = self.layout.clone() {
                    let selection = self.selection.as_ref().and_then(|(_, selection)| selection.as_ref());
                    self.modules.ui(ui, view, &layout, selection, self.preset.is_none());
                } else {
                    ui.label("Open a model, or choose a published one.");
                }
            }
            Section::Paper => self.paper.ui(ui, view),
            Section::Memory => self.memory.ui(ui, view),
            Section::Ranks => self.ranks.ui(ui, view),
            Section::Probe => self.probe.ui(ui, view),
            Section::Scales => self.scales.ui(ui, view),
        }
    }

    /// The model that is counted and predicted for.
    fn model(&self, ui: &mut Ui, view: &mut View<'_>) {
        let open = view.workspace.base().map_or_else(|| "no open model".to_owned(), |base| base.name());
        let shown = self.preset.map_or(open.as_str(), |p| p.title);
        let mut chosen = self.preset;
        let combo = ComboBox::from_id_salt("model").selected_text(middle(shown, 26)).width(190.0).height(420.0);
        let combo = combo.show_ui(ui, |ui| {
            if ui.selectable_label(chosen.is_none(), open.as_str()).clicked() {
                chosen = None;
            }
            let mut family = "";
            for preset in plan::presets() {
                if preset.family != family {
                    family = preset.family;
                    ui.label(RichText::new(family).small().color(Colors::of(ui).weak));
                }
                if ui.selectable_label(chosen.is_some_and(|p| p.id == preset.id), preset.title).clicked() {
                    chosen = Some(preset);
                }
            }
        });
        combo.response.on_hover_text("Counts and memory are of this model").accessible_name("Model to count");
        if chosen.map(|p| p.id) != self.preset.map(|p| p.id) {
            view.actions.push(Action::Model(chosen));
        }
    }

    fn counts_ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        ui.horizontal(|ui| {
            let label = ui.label(RichText::new("Trainable parameters").strong());
            label.on_hover_ui(|ui| glossary::TRAINABLE.ui(ui));
            if let Some(counts) = &self.counts {
                let weak = Colors::of(ui).weak;
                let all = format!("{} parameters in all", units::exact(counts.parameters));
                ui.label(RichText::new(all).color(weak));
                ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
                    let area = ui.clip_rect();
                    view.export(ui, "parameter counts", &Take::TABLE, area, || Source::Table(counts.rows()));
                });
            }
        });
        let Some(counts) = &self.counts else {
            ui.label("Open a model, or choose a published one.");
            return;
        };
        table::ui(ui, view, counts, self.preset.is_none());
        ui.add_space(14.0);
        ui.spacing_mut().item_spacing.y = 6.0;
        if let Some(layout) = &self.layout {
            let dial = view.workspace.dial();
            let selection = self.selection.as_ref().and_then(|(_, selection)| selection.as_ref());
            let count = selection.and_then(|selection| selection.count(dial.r.min(selection.max_rank())).ok());
            let lora = count.as_ref().map(|count| (count, crate::app::shared::targets::name(&dial.targets)));
            self.methods.ui(ui, layout, lora, dial.r);
        }
    }
}

fn against(ui: &mut Ui, view: &mut View<'_>) {
    let Some(gpt3) = GPT3_COUNTS.as_ref() else { return };
    let bars = bars_of(view, gpt3);
    let area = ui.available_rect_before_wrap().intersect(ui.clip_rect());
    ui.horizontal(|ui| {
        ui.label(RichText::new("175B against 4.7M").strong());
        ui.with_layout(Layout::right_to_left(eframe::egui::Align::Center), |ui| {
            view.export(ui, "175B against 4.7M", &Take::PLOT, area, || Source::Figure(Box::new(model::figure(&bars))));
        });
    });
    if let Some(least) = gpt3.columns[0].count(1) {
        let text = format!(
            "Full fine-tuning of GPT-3 changes every parameter. LoRA at r = 1 on the query and value projections of all \
             layers trains {}: {} times fewer.",
            units::exact(least.trainable),
            units::exact(gpt3.parameters / least.trainable)
        );
        ui.label(RichText::new(text).color(Colors::of(ui).weak));
    }
    ui.add_space(8.0);
    bars::ui(ui, &bars);
    ui.add_space(14.0);
    ui.label(RichText::new("The same as areas, to scale").strong());
    if let Some(least) = gpt3.columns[0].count(1) {
        areas::ui(ui, ("GPT-3 175B", gpt3.parameters), ("LoRA at r = 1", least.trainable));
    }
}

fn bars_of(view: &View<'_>, gpt3: &Counts) -> Vec<Bar> {
    let base = view.workspace.base().map(|base| (base.name(), base.parameters()));
    let dial = view.workspace.dial();
    let adapter = match view.cost {
        Some(Ok(count)) => Some((
            format!("LoRA r = {} on {}", dial.r, crate::app::shared::targets::name(&dial.targets)),
            count.trainable,
        )),
        _ => None,
    };
    model::bars(base.as_ref().map(|(name, n)| (name.as_str(), *n)), adapter, gpt3)
}
