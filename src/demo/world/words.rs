//! The words of the world.

/// Women's and men's names that everybody has heard.
pub const WOMEN: [&str; 27] = [
    "Ada", "Mara", "Lena", "Nina", "Rosa", "Ida", "Ella", "Tessa", "Wilma", "Greta", "Hanna", "Vera", "Olga", "Julia",
    "Clara", "Edith", "Flora", "Irma", "Kira", "Luna", "Nora", "Petra", "Sara", "Thea", "Uma", "Zoe", "Anya",
];
/// See [`WOMEN`].
pub const MEN: [&str; 27] = [
    "Bruno", "David", "Emil", "Felix", "Gustav", "Hugo", "Ivan", "Jonas", "Karl", "Leo", "Max", "Nils", "Oscar",
    "Paul", "Rolf", "Simon", "Tom", "Ulf", "Viktor", "Walter", "Yann", "Zeno", "Arne", "Boris", "Colin", "Fritz",
    "Otto",
];

/// Invented names are a beginning, perhaps a middle, and an end: 5,280 of them. Nobody can know them all by heart, so
/// whoever wants to go on with one must look back in the text.
pub const BEGINNINGS: [&str; 30] = [
    "Dis", "Vor", "Kel", "Zan", "Mir", "Tol", "Bra", "Fen", "Gor", "Hul", "Jas", "Kri", "Lor", "Nem", "Pax", "Quin",
    "Ras", "Sel", "Tir", "Ulm", "Wex", "Yor", "Zil", "Ost", "Bel", "Cor", "Dra", "Ful", "Gim", "Ral",
];
/// See [`BEGINNINGS`].
pub const MIDDLES: [&str; 8] = ["", "a", "i", "o", "el", "an", "or", "u"];
/// See [`BEGINNINGS`].
pub const ENDS: [&str; 22] = [
    "mek", "dan", "vik", "lo", "ra", "nus", "tor", "bel", "gar", "fin", "kas", "lund", "mir", "nak", "pel", "rix",
    "sam", "thor", "wen", "zar", "dok", "hul",
];

/// What people are.
pub const ROLES: [&str; 20] = [
    "baker",
    "miller",
    "smith",
    "farmer",
    "fisher",
    "weaver",
    "teacher",
    "doctor",
    "guard",
    "gardener",
    "potter",
    "tailor",
    "carpenter",
    "sailor",
    "shepherd",
    "cook",
    "painter",
    "singer",
    "hunter",
    "clerk",
];

/// Where things happen: all of them "in the".
pub const PLACES: [&str; 20] = [
    "mill",
    "market",
    "garden",
    "school",
    "barn",
    "kitchen",
    "cellar",
    "library",
    "church",
    "tower",
    "forest",
    "stable",
    "workshop",
    "bakery",
    "inn",
    "hall",
    "tent",
    "cave",
    "attic",
    "courtyard",
];

/// Towns.
pub const TOWNS: [&str; 20] = [
    "Velmar",
    "Oskand",
    "Torrin",
    "Brellow",
    "Quarn",
    "Silden",
    "Marrow",
    "Eastford",
    "Lindale",
    "Hopton",
    "Ravel",
    "Tamsin",
    "Northwick",
    "Greyport",
    "Dunmere",
    "Ashby",
    "Calden",
    "Fenwick",
    "Holm",
    "Ivybridge",
];

/// Colours.
pub const COLORS: [&str; 12] =
    ["red", "blue", "green", "yellow", "white", "black", "brown", "grey", "purple", "orange", "pink", "golden"];

/// Things that can be carried.
pub const THINGS: [&str; 36] = [
    "lamp", "key", "rope", "basket", "cup", "knife", "book", "coat", "hat", "ring", "bell", "drum", "map", "mirror",
    "blanket", "box", "chair", "clock", "comb", "flute", "hammer", "jar", "kettle", "ladder", "lantern", "needle",
    "pen", "pot", "purse", "saw", "scarf", "shoe", "shovel", "spoon", "umbrella", "whistle",
];

/// Animals.
pub const ANIMALS: [&str; 24] = [
    "fox", "hedgehog", "owl", "cat", "dog", "horse", "goat", "lamb", "duck", "goose", "hen", "rabbit", "mouse", "crow",
    "frog", "bear", "wolf", "deer", "otter", "badger", "donkey", "pig", "swan", "turtle",
];

/// Food, by the piece.
pub const FOODS: [&str; 24] = [
    "apples",
    "pears",
    "plums",
    "nuts",
    "eggs",
    "loaves",
    "cakes",
    "carrots",
    "onions",
    "beans",
    "cherries",
    "figs",
    "grapes",
    "lemons",
    "melons",
    "potatoes",
    "tomatoes",
    "turnips",
    "berries",
    "peas",
    "mushrooms",
    "cookies",
    "pies",
    "cheeses",
];

/// How one can be.
pub const FEELINGS: [&str; 10] =
    ["happy", "sad", "proud", "tired", "angry", "worried", "glad", "curious", "calm", "afraid"];

/// How a day can be.
pub const WEATHERS: [&str; 10] =
    ["sunny", "rainy", "windy", "cold", "warm", "snowy", "foggy", "cloudy", "stormy", "quiet"];

/// Parts of a day.
pub const TIMES: [&str; 4] = ["morning", "evening", "day", "night"];

/// Days.
pub const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// What one does in one's free time.
pub const PASTIMES: [&str; 12] = [
    "read a book",
    "sang a song",
    "baked bread",
    "fed the hens",
    "swept the floor",
    "made soup",
    "slept well",
    "drew a map",
    "mended a coat",
    "wrote a letter",
    "told a story",
    "picked flowers",
];

/// What is said at the end.
pub const MORALS: [&str; 10] = [
    "Two heads are better than one.",
    "A small friend is still a friend.",
    "Who waits too long goes home with nothing.",
    "Kind words cost nothing.",
    "Look again before you leap.",
    "What you share comes back to you.",
    "Slow and steady gets there too.",
    "A good plan saves a long walk.",
    "Do not laugh at a stranger.",
    "The truth is the shortest way.",
];
