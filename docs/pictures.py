#!/usr/bin/env python3
"""Takes every picture of docs/pictures.md from the running window, and writes that page.

    cargo build --release --features inspection
    python3 docs/pictures.py target/release/rankscope [WIDTHxHEIGHT-THEME ...]

Needs Xvfb, OpenGL or Vulkan in software (libgl1-mesa-dri, mesa-vulkan-drivers), pngquant, and msgpack for Python. The window starts
without settings, on the bundled model, and is driven through its inspection port as a hand would: a screen is a line below.
"""
import os, pathlib, socket, struct, subprocess, sys, tempfile, time

import msgpack

HERE = pathlib.Path(__file__).parent
SETS = [f"{size}-{theme}" for size in ("1280x800", "1920x1080") for theme in ("dark", "light")]
COLORS = "64"                     # of a picture: the window is drawn with few
NONE = [False] * 5                # no modifier is held
CHAPTERS = ["One base, many tunings", "Why full tuning is hard", "Track the change", "Nine numbers from six", "What rank is",
            "Turn the dial", "What a rank costs", "From 16 bits to 4", "Do it"]
# What is typed into the palette, what happens then, the file's name, the caption.
SCREENS = [
    (None, [], "start", "The first start asks once what a person came for"),
    ("Show Spectrum", [], "spectrum", "Spectrum: singular values, rules, ΔW and what a rank keeps of it, all modules"),
    ("Directions", [], "spectrum-directions", "Spectrum, Directions: overlap with other updates, amplification, intruders"),
    ("Show Choose", [], "choose", "Choose: rank, α, learning rate and modules, with the reasons"),
    ("Parameters: Counts", [], "parameters-counts", "Parameters, Counts: trainable parameters by rank and targets"),
    ("Parameters: Modules", [], "parameters-modules", "Parameters, Modules: the same for each module"),
    ("Parameters: The paper", [], "parameters-paper", "Parameters, The paper: the LoRA paper's table beside our formulas"),
    ("Parameters: Memory", [], "parameters-memory", "Parameters, Memory: full tuning, LoRA and QLoRA beside GPUs"),
    ("Parameters: Ranks", [], "parameters-ranks", "Parameters, Ranks: the best ranks under a budget"),
    ("Parameters: Probe & data", [], "parameters-probe", "Parameters, Probe & data: gradients before any training"),
    ("Parameters: Check", [], "parameters-check", "Parameters, Check: what is amiss with an adapter's scales"),
    ("Quantization: Formats", [], "quantization-formats", "Quantization, Formats: a weight, its rounding, the error; formats at matched bits"),
    ("Quantization: Where the error is", [], "quantization-error", "Quantization, Where the error is"),
    ("Quantization: Block sizes", [], "quantization-blocks", "Quantization, Block sizes"),
    ("Quantization: All modules", [], "quantization-modules", "Quantization, All modules"),
    ("Quantization: Against ΔW", [], "quantization-delta", "Quantization, Against ΔW: whether rounding drowns the update"),
    ("Quantization: What QLoRA quantizes", [], "quantization-roles", "Quantization, What QLoRA quantizes"),
    ("Train: Data", [], "train-data", "Train, Data: rows as the model will see them"),
    ("Train: Run", [], "train-setup", "Train, Run: a run is set up"),
    (None, [("click", "Start the run"), ("sleep", 15)], "train-run", "Train, Run: a run while it goes on"),
    (None, [("end", 40)], "train-done", "Train, Run: a run that was stopped"),
    ("Train: Talk", [("click", "Ask")], "train-talk", "Train, Talk: base and tuned model answer the same prompt"),
    ("Train: Compare", [], "train-compare", "Train, Compare: runs over each other"),
    ("Train: Sweep", [], "train-sweep", "Train, Sweep: loss against rank"),
    ("Train: Forgetting", [], "train-forgetting", "Train, Forgetting: what tuning has forgotten"),
    ("Train: History", [], "train-history", "Train, History: every run on the disk"),
    *((f"Learn: {title}", [], f"learn-{number}", f"Learn, chapter {number}: {title}") for number, title in enumerate(CHAPTERS, 1)),
    (None, [("key", "ctrl+K"), ("type", "q_proj")], "palette", "The palette finds commands, modules, chapters, ranks, models"),
    (None, [("key", "Escape"), ("key", "F1")], "help", "All keys and commands"),
]

# Of runs that are not here: taken by hand, at the smaller size.
BY_HAND = [
    ("train-makers", "Train, Compare: runs of Rankscope, TRL, LLaMA-Factory and mlx-lm on one plot"),
    ("train-film-of-trl", "Train, Run: the spectrum film of a run of TRL, from its checkpoints"),
]


class Window:
    def __init__(self, program, size, home):
        port, display = 5800 + os.getpid() % 1000, f":{300 + os.getpid() % 1000}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.screen = subprocess.Popen(["Xvfb", display, "-screen", "0", f"{size}x24", "-nolisten", "tcp"], **quiet)
        time.sleep(1)
        homes = dict.fromkeys(("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"), home)
        env = {**os.environ, **homes, "DISPLAY": display, "EGUI_INSPECTION": f"127.0.0.1:{port}", "LIBGL_ALWAYS_SOFTWARE": "1"}
        env.pop("WAYLAND_DISPLAY", None)
        self.program, end = subprocess.Popen([program], env=env, **quiet), time.time() + 60
        while True:
            try:
                self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
                break
            except OSError:
                if time.time() > end:
                    sys.exit("the program opens no inspection port: was it built with the feature inspection?")
                time.sleep(0.1)
        self.read(8)
        self.ask({"Resize": [int(side) for side in size.split("x")]})

    def read(self, count):
        got = b""
        while len(got) < count:
            piece = self.socket.recv(count - len(got))
            if not piece:
                sys.exit("the program ended")
            got += piece
        return got

    def ask(self, what):
        body = msgpack.packb(what)
        self.socket.sendall(struct.pack(">I", len(body)) + body)
        return msgpack.unpackb(self.read(struct.unpack(">I", self.read(4))[0]), raw=False, strict_map_key=False)

    def events(self, *events):
        for event in events:      # a frame each
            self.ask({"ApplyEvents": [[event]]})

    def key(self, name):
        *held, key = name.split("+")
        held = [False, "ctrl" in held, False, False, "ctrl" in held]
        self.events({"Key": [key, None, True, False, held]}, {"Key": [key, None, False, False, held]})

    def find(self, label):
        """The middle of what has this label or value, if it is on the screen."""
        tree = self.ask("GetTree")["Tree"][2]
        for _, node in tree[0] if isinstance(tree, list) else tree["nodes"]:
            texts, bounds = [], []
            collect(node, texts, bounds)
            if label in texts and bounds:
                x0, y0, x1, y1 = bounds[0]
                return [(x0 + x1) / 2, (y0 + y1) / 2]
        return None

    def wait(self, label, seconds=600):
        end = time.time() + seconds
        while not (at := self.find(label)):
            if time.time() > end:
                sys.exit(f"there is no “{label}” after {seconds} s")
            time.sleep(0.3)
        return at

    def click(self, label):
        at = self.wait(label, 30)
        self.events({"PointerMoved": at}, *({"PointerButton": [at, "Primary", down, NONE]} for down in (True, False)))
        self.events({"PointerMoved": [2.0, 2.0]})

    def end(self, seconds):
        """Of a run: at its last step, or by a stop after so many seconds."""
        limit = time.time() + seconds
        while not self.find("finished") and time.time() < limit:
            time.sleep(0.5)
        if not self.find("finished"):
            self.click("Stop")
            self.wait("stopped", 120)

    def palette(self, text):
        self.key("ctrl+K")
        self.events({"Text": text})
        time.sleep(0.3)
        self.key("Enter")

    def picture(self, seconds=25):
        """Once nothing has moved for a second."""
        last, same, end = None, 0, time.time() + seconds
        while same < 2 and time.time() < end:
            time.sleep(0.35)
            png = self.ask({"GetScreenshot": [None]})["Screenshot"][1]
            last, same = png, same + 1 if png == last else 0
        return last

    def close(self):
        for one in (self.program, self.screen):
            one.terminate()
            one.wait(20)


def collect(x, texts, bounds):
    if isinstance(x, dict):
        for name, value in x.items():
            if name in ("label", "value") and isinstance(value, str):
                texts.append(value)
            elif name == "bounds" and value:
                bounds.append([float(value[side]) for side in ("x0", "y0", "x1", "y1")] if isinstance(value, dict) else value)
            else:
                collect(value, texts, bounds)
    elif isinstance(x, list):
        for value in x:
            collect(value, texts, bounds)


def take(program, kind):
    size, theme = kind.split("-")
    folder = HERE / "pictures" / kind
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        window = Window(program, size, home)
        try:
            window.wait("What brings you here?", 60)
            # The palette opens above the question, which stays.
            window.palette(f"{theme.title()} theme")
            for typed, steps, name, _ in SCREENS:
                if name == "spectrum":
                    window.key("Escape")
                if typed:
                    window.palette(typed)
                for step, about in steps:
                    {"sleep": time.sleep, "type": lambda text: window.events({"Text": text})}.get(step, getattr(window, step, None))(about)
                png = window.picture(3 if name == "train-run" else 25)
                with open(folder / f"{name}.png", "wb") as out:
                    subprocess.run(["pngquant", "--nofs", COLORS, "-"], input=png, stdout=out, check=True)
                print(kind, name, flush=True)
        finally:
            window.close()


def page():
    lines = ["# Pictures", "", "Every tab, sub-tab and chapter at 1280×800 and 1920×1080, dark and light, with the bundled model.",
             "`docs/pictures.py` takes them from the running window, an optimized build drawn in software on two cores that were busy with other",
             "things: the times and speeds in them are not what a free machine gives ([Speed and memory](speed.md)).", ""]
    for *_, name, caption in SCREENS + BY_HAND:
        lines += [f"## {caption}", ""]
        for size in ("1280x800",) if (name, caption) in BY_HAND else ("1280x800", "1920x1080"):
            shown = size.replace("x", "×")
            lines += [f"![{caption}, {theme}, {shown}](pictures/{size}-{theme}/{name}.png)" for theme in ("dark", "light")]
        lines.append("")
    (HERE / "pictures.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for kind in sys.argv[2:] or SETS:
        take(sys.argv[1], kind)
    page()
