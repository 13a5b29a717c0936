//! The window. [`App::logic`](eframe::App::logic) receives results and decides; [`App::ui`](eframe::App::ui) paints and
//! pushes [`Command`]s. Panels see a [`View`] of everything and change nothing but their own looks.

mod effect;
mod logic;
pub mod look;
mod shared;
mod shell;
mod start;
mod tabs;
pub mod widgets;
mod work;

use std::path::PathBuf;
use std::sync::Arc;

use eframe::egui::{self, CentralPanel, Frame, Margin, Panel, Stroke};

use crate::checkpoint::hub::Cached;
use crate::error::Error;
use crate::job::{Job, Wake};
use crate::plan;
use crate::workspace::Workspace;

use effect::{Command, Commands};
use look::settings::Settings;
use look::theme;
use shell::Panels;
use shell::dialogs::Asking;
use shell::notice::Notices;
use shell::palette::Palette;
use tabs::learn::state as learning;
use tabs::parameters::state as planning;
use tabs::quantization::state as quantization;
use tabs::train::state as training;
use widgets::menu::Take;
use work::export::{Export, Exporter, Source};
use work::jobs::Jobs;
use work::shown::Shown;

pub use start::{Start, run};

/// The device, as the top bar tells it.
#[derive(Clone, Debug, Default)]
pub struct DeviceText {
    /// A few words.
    pub summary: String,
    /// All devices, with the reasons of those that cannot be used.
    pub details: String,
}

/// The last thing worth saying.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// A sentence.
    pub text: String,
    /// It is about something that did not work.
    pub bad: bool,
}

/// What is learnt about the machine at the start.
struct Surroundings {
    device: DeviceText,
    hub: Vec<Cached>,
}

impl View<'_> {
    /// The ⋯ button of a plot, a table or a picture: what is chosen there is carried out.
    pub fn export(
        &mut self,
        ui: &mut egui::Ui,
        name: &str,
        offers: &[Take],
        area: egui::Rect,
        source: impl FnOnce() -> Source,
    ) {
        if let Some(take) = widgets::menu::menu(ui, name, offers) {
            self.commands.push(Command::Export(Export { take, name: name.to_owned(), source: source(), area }));
        }
    }
}

/// Everything a panel may look at, and the list of commands that it may add to.
pub struct View<'a> {
    /// There is little room: what can be said elsewhere is.
    pub cramped: bool,
    /// What is loaded and computed.
    pub workspace: &'a Workspace,
    /// What runs.
    pub jobs: &'a Jobs,
    /// What persists.
    pub settings: &'a Settings,
    /// The current module as a picture.
    pub shown: &'a Shown,
    /// What the tabs compute for themselves.
    pub features: &'a Features,
    /// What the dial's adapter costs.
    pub cost: Option<&'a Result<plan::Count, Error>>,
    /// The modules that the dial's targets name.
    pub adapted: Option<&'a Result<plan::Selection, Error>>,
    /// What there is to compute on.
    pub device: &'a DeviceText,
    /// The hub's local cache.
    pub hub: &'a [Cached],
    /// The last message.
    pub message: &'a Message,
    /// Where the next plot's picture is asked for.
    pub commands: &'a mut Commands,
}

/// What the tabs compute for themselves, each in its own folder.
pub struct Features {
    /// The Quantization tab.
    pub quantization: quantization::Quantization,
    /// The choice of a rank.
    pub planning: planning::Planning,
    /// The Train tab.
    pub training: training::Training,
    /// The Learn tab.
    pub learning: learning::Learning,
}

impl Features {
    fn new(wake: &Wake, data_dir: PathBuf) -> Self {
        Self {
            quantization: quantization::Quantization::new(Arc::clone(wake)),
            planning: planning::Planning::new(Arc::clone(wake)),
            training: training::Training::new(Arc::clone(wake), data_dir.clone()),
            learning: learning::Learning::new(Arc::clone(wake), data_dir),
        }
    }

    fn think(&mut self, round: &mut effect::Round<'_>) {
        self.quantization.think(round);
        self.planning.think(round);
        self.training.think(round);
        self.learning.think(round);
    }

    /// Their jobs, for the status bar.
    pub fn running(&self) -> Vec<(effect::Work, &str, crate::job::Status)> {
        use effect::{Feature, Work};
        let of = |feature: Feature, all| -> Vec<_> {
            let all: Vec<(&str, crate::job::Status)> = all;
            all.into_iter().map(|(title, status)| (Work::Of(feature, title.to_owned()), title, status)).collect()
        };
        let mut all = of(Feature::Quantization, self.quantization.running());
        all.extend(of(Feature::Planning, self.planning.running()));
        all.extend(of(Feature::Training, self.training.running()));
        all.extend(of(Feature::Learning, self.learning.running()));
        all
    }

    fn cancel(&mut self, feature: effect::Feature, title: &str) {
        match feature {
            effect::Feature::Quantization => self.quantization.cancel(title),
            effect::Feature::Planning => self.planning.cancel(title),
            effect::Feature::Training => self.training.cancel(title),
            effect::Feature::Learning => self.learning.cancel(title),
        }
    }
}

/// The program's window.
pub struct App {
    workspace: Workspace,
    settings: Settings,
    jobs: Jobs,
    shown: Shown,
    features: Features,
    cost: logic::Cost,
    device: DeviceText,
    hub: Vec<Cached>,
    surroundings: Option<Job<Surroundings>>,
    asking: Option<Asking>,
    exporter: Exporter,
    message: Message,
    commands: Commands,
    panels: Panels,
    palette: Palette,
    help: bool,
    notices: Notices,
    sweep_wanted: bool,
    /// The window is narrow, or its scale large.
    cramped: bool,
    /// A person has chosen what to look at.
    asked: bool,
    /// Spectra were asked for, whatever is in front.
    demanded: bool,
    data_dir: PathBuf,
}

const SETTINGS: &str = "rankscope-settings";
/// In a narrower window (or at a larger scale) the list of modules is there when it is asked for.
const ROOMY: f32 = 820.0;

impl App {
    /// The window's contents; work begins at once.
    pub fn new(cc: &eframe::CreationContext<'_>, start: Start) -> Self {
        theme::install(&cc.egui_ctx);
        let settings: Settings = cc.storage.and_then(|s| eframe::get_value(s, SETTINGS)).unwrap_or_default();
        let settings = settings.checked();
        cc.egui_ctx.set_theme(settings.theme);
        cc.egui_ctx.set_zoom_factor(settings.scale);
        let ctx = cc.egui_ctx.clone();
        let wake: Wake = Arc::new(move || ctx.request_repaint());
        let surroundings = Job::spawn("Looking at the machine", Arc::clone(&wake), |_| Ok(surroundings()));
        let data_dir = start.data_dir.unwrap_or_else(start::data_dir);
        let mut commands = Commands::default();
        commands.push(match start.request {
            Some(request) => Command::Open(request),
            None => Command::OpenSample,
        });
        Self {
            workspace: Workspace::default(),
            panels: Panels::default(),
            settings,
            exporter: Exporter::new(Arc::clone(&wake)),
            shown: Shown::new(Arc::clone(&wake)),
            features: Features::new(&wake, data_dir.clone()),
            jobs: Jobs::new(wake),
            cost: logic::Cost::default(),
            device: DeviceText::default(),
            hub: Vec::new(),
            surroundings: Some(surroundings),
            asking: None,
            message: Message::default(),
            commands,
            palette: Palette::default(),
            help: false,
            notices: Notices::default(),
            sweep_wanted: false,
            cramped: false,
            asked: false,
            demanded: false,
            data_dir,
        }
    }

    /// What is loaded and computed: for tests, which look and do not touch.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// True while any work runs beside the window.
    pub fn is_busy(&self) -> bool {
        !self.jobs.running().is_empty()
            || !self.features.running().is_empty()
            || self.shown.is_busy()
            || self.features.quantization.is_coloring()
            || self.features.planning.is_following()
            || self.surroundings.is_some()
    }

    /// True when the heatmaps show what was asked of them: no tile is missing or being coloured.
    pub fn is_painted(&self) -> bool {
        let panes = &self.panels.tabs.panes;
        !self.shown.is_busy() && panes.spectrum.required().is_empty() && panes.quantization.required().is_empty()
    }
}

fn surroundings() -> Surroundings {
    let all = crate::device::devices();
    let lines: Vec<String> = all
        .iter()
        .map(|(choice, device)| match device {
            Ok(device) => format!("✓ {device}"),
            Err(reason) => format!("– {choice}: {reason}"),
        })
        .collect();
    let best = crate::device::Choice::Auto.resolve();
    let summary = best.map_or_else(
        |_| "CPU".to_owned(),
        |d| match d.cores {
            Some(cores) => format!("CPU · {cores} threads"),
            None => d.name,
        },
    );
    Surroundings { device: DeviceText { summary, details: lines.join("\n") }, hub: crate::checkpoint::hub::cached() }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.think(ctx);
    }

    fn ui(&mut self, ui: &mut egui::Ui, _frame: &mut eframe::Frame) {
        self.cramped = ui.available_width() < ROOMY;
        let mut view = View {
            cramped: self.cramped,
            workspace: &self.workspace,
            jobs: &self.jobs,
            settings: &self.settings,
            shown: &self.shown,
            features: &self.features,
            cost: self.cost.count(),
            adapted: self.cost.adapted(),
            device: &self.device,
            hub: &self.hub,
            message: &self.message,
            commands: &mut self.commands,
        };
        let line = theme::Colors::of(ui).line;
        let fill = ui.visuals().panel_fill;
        let bar = Frame::new().fill(fill).inner_margin(Margin::symmetric(12, 7));
        Panel::top("top").frame(bar).show(ui, |ui| shell::top::ui(ui, &mut view));
        self.panels.path.ui(ui, &mut view);
        Panel::top("rank").frame(bar).show(ui, |ui| self.panels.rank.ui(ui, &mut view));
        let status = Frame::new().fill(fill).inner_margin(Margin::symmetric(12, 4));
        Panel::bottom("status").frame(status).show(ui, |ui| shell::status::ui(ui, &mut view));
        let listed = if view.cramped { self.panels.listed } else { view.settings.show_modules };
        if listed {
            Panel::left("modules")
                .frame(Frame::new().fill(fill).inner_margin(Margin { left: 12, right: 8, top: 10, bottom: 4 }))
                .default_size(252.0)
                .size_range(180.0..=480.0)
                .show(ui, |ui| self.panels.modules.ui(ui, &mut view));
        }
        let centre = Frame::new().fill(ui.visuals().extreme_bg_color).stroke(Stroke::new(0.0, line));
        CentralPanel::default().frame(centre).show(ui, |ui| self.panels.tabs.ui(ui, &mut view));
        self.palette.ui(ui, &mut view);
        shell::help::ui(ui, &mut self.help);
        tabs::train::closing(ui, &mut view);
        shell::drops::ui(ui);
        self.notices.ui(ui);
        // What was asked for while painting is carried out at once, not at the next movement of the mouse.
        let panes = &self.panels.tabs.panes;
        let tiles = (self.shown.is_ready() && !panes.spectrum.required().is_empty())
            || (self.features.quantization.can_color() && !panes.quantization.required().is_empty());
        if tiles || !self.commands.is_empty() {
            ui.ctx().request_repaint();
        }
    }

    fn on_exit(&mut self, _: Option<&eframe::glow::Context>) {
        self.features.training.finish();
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        eframe::set_value(storage, SETTINGS, &self.settings);
    }
}
