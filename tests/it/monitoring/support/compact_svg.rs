//! Makes the SVG of plotters several times smaller: merged paths with relative coordinates, straight stretches as one
//! segment, attributes that repeat as classes. No point moves by more than [`TOLERANCE`].

use std::collections::BTreeMap;

/// How far a dropped point may be from the simplified line, in pixels.
const TOLERANCE: f64 = 1.0;

/// The largest side of a rectangle in a legend, in pixels.
const SWATCH: i32 = 10;

type Attributes<'a> = BTreeMap<&'a str, &'a str>;

pub fn compact(svg: &str) -> String {
    let mut picture = Picture::default();
    let mut rest = svg;
    while let Some((_, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').unwrap();
        let (name, attributes) = tag.split_once([' ', '\n']).unwrap_or((tag, ""));
        let attributes = parse(attributes);
        let content = after.split('<').next().unwrap_or_default().trim();
        match name {
            "svg" => picture.head = head(&attributes),
            "text" => picture.text(&attributes, content),
            name if name.starts_with('/') => {}
            name => picture.shape(name, &attributes),
        }
        rest = after;
    }
    picture.finish()
}

#[derive(Default)]
struct Picture {
    head: String,
    paths: String,
    /// The small rectangles of each class: a legend's colors, which nothing covers.
    swatches: BTreeMap<usize, String>,
    /// The texts of each class. They are written last: no shape of a panel covers a text.
    texts: BTreeMap<usize, String>,
    /// The class of each set of declarations.
    classes: BTreeMap<String, usize>,
    /// The class of the path that is being written, and its commands.
    path: Option<(usize, String)>,
}

// === impl Picture ===

impl Picture {
    fn class(&mut self, declarations: String) -> usize {
        let next = self.classes.len();
        *self.classes.entry(declarations).or_insert(next)
    }

    fn text(&mut self, attributes: &Attributes, content: &str) {
        let size: f64 = attributes["font-size"].parse().unwrap();
        let shift = match attributes.get("dy") {
            Some(&"0.76em") => 0.76 * size,
            // An x-height is about half the font's size.
            Some(&"0.5ex") => 0.25 * size,
            None => 0.0,
            other => panic!("unknown shift {other:?}"),
        };
        let y: f64 = attributes["y"].parse().unwrap();
        let anchor = attributes["text-anchor"];
        let class =
            self.class(format!("font-size:{size:.0}px;text-anchor:{anchor};fill:{}", attributes["fill"]));
        let x = attributes["x"];
        let texts = self.texts.entry(class).or_default();
        texts.push_str(&format!("<text x=\"{x}\" y=\"{:.0}\">{content}</text>\n", y + shift));
    }

    /// Adds a shape to the current path if it has the same style: what was drawn later stays above.
    fn shape(&mut self, name: &str, attributes: &Attributes) {
        let number = |name: &str| attributes[name].parse::<i32>().unwrap();
        let (points, closed) = match name {
            "line" => (vec![(number("x1"), number("y1")), (number("x2"), number("y2"))], false),
            "rect" => {
                let (x, y) = (number("x"), number("y"));
                let (right, bottom) = (x + number("width"), y + number("height"));
                (vec![(x, y), (right, y), (right, bottom), (x, bottom)], true)
            }
            "polyline" => (simplified(&points(attributes["points"])), false),
            "polygon" => (simplified(&points(attributes["points"])), true),
            other => panic!("unknown shape {other}"),
        };
        let style = match closed {
            true => format!("fill:{}", attributes["fill"]),
            false => format!("fill:none;stroke:{}", attributes["stroke"]),
        };
        let class = self.class(style);
        if name == "rect" && number("width").max(number("height")) <= SWATCH {
            self.swatches.entry(class).or_default().push_str(&(relative(&points) + "z"));
            return;
        }
        if self.path.as_ref().is_none_or(|path| path.0 != class) {
            self.end_path();
            self.path = Some((class, String::new()));
        }
        let commands = &mut self.path.as_mut().unwrap().1;
        commands.push_str(&relative(&points));
        if closed {
            commands.push('z');
        }
    }

    fn end_path(&mut self) {
        if let Some((class, commands)) = self.path.take() {
            self.paths.push_str(&format!("<path class=\"c{class}\" d=\"{commands}\"/>\n"));
        }
    }

    fn finish(mut self) -> String {
        self.end_path();
        let classes = self.classes.iter().map(|(style, class)| format!(".c{class}{{{style}}}"));
        let styles = classes.collect::<Vec<_>>().join("\n");
        let texts = self.texts.iter().map(|(class, texts)| format!("<g class=\"c{class}\">\n{texts}</g>\n"));
        let swatches = self.swatches.iter();
        let swatches =
            swatches.map(|(class, commands)| format!("<path class=\"c{class}\" d=\"{commands}\"/>\n"));
        let body = self.paths + &swatches.chain(texts).collect::<String>();
        format!("{}<style>text{{font-family:sans-serif}}\n{styles}</style>\n{body}</svg>\n", self.head)
    }
}

fn parse(attributes: &str) -> Attributes<'_> {
    let mut found = Attributes::new();
    let mut rest = attributes;
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').unwrap();
        found.insert(name.trim(), value);
        rest = after;
    }
    found
}

fn head(attributes: &Attributes) -> String {
    let [width, height, view] = ["width", "height", "viewBox"].map(|name| attributes[name]);
    format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"{view}\" xmlns=\"http://www.w3.org/2000/svg\">\n"
    )
}

fn points(text: &str) -> Vec<(i32, i32)> {
    let pairs = text.split_whitespace().map(|pair| pair.split_once(',').unwrap());
    pairs.map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap())).collect()
}

/// Douglas and Peucker's simplification.
fn simplified(points: &[(i32, i32)]) -> Vec<(i32, i32)> {
    let [first, inner @ .., last] = points else { return points.to_vec() };
    let farthest = inner.iter().enumerate().map(|(at, point)| (at + 1, distance(*point, *first, *last)));
    match farthest.max_by(|a, b| a.1.total_cmp(&b.1)) {
        Some((at, distance)) if distance > TOLERANCE => {
            let mut all = simplified(&points[..=at]);
            all.pop();
            all.extend(simplified(&points[at..]));
            all
        }
        _ => vec![*first, *last],
    }
}

/// From a point to the segment between two others.
fn distance(point: (i32, i32), from: (i32, i32), to: (i32, i32)) -> f64 {
    let vector = |a: (i32, i32), b: (i32, i32)| (f64::from(b.0 - a.0), f64::from(b.1 - a.1));
    let (along, to_point) = (vector(from, to), vector(from, point));
    let length = along.0.powi(2) + along.1.powi(2);
    let share = if length == 0.0 { 0.0 } else { (to_point.0 * along.0 + to_point.1 * along.1) / length };
    let share = share.clamp(0.0, 1.0);
    (to_point.0 - share * along.0).hypot(to_point.1 - share * along.1)
}

fn relative(points: &[(i32, i32)]) -> String {
    let mut commands = format!("M{} {}", points[0].0, points[0].1);
    let mut last = '\0';
    for pair in points.windows(2) {
        let step = (pair[1].0 - pair[0].0, pair[1].1 - pair[0].1);
        let (command, numbers) = match step {
            (0, 0) => continue,
            (x, 0) => ('h', format!("{x}")),
            (0, y) => ('v', format!("{y}")),
            (x, y) if y < 0 => ('l', format!("{x}{y}")),
            (x, y) => ('l', format!("{x} {y}")),
        };
        if command != last {
            commands.push(command);
        } else if !numbers.starts_with('-') {
            commands.push(' ');
        }
        commands.push_str(&numbers);
        last = command;
    }
    commands
}

#[test]
fn a_straight_stretch_is_one_segment_and_a_bend_stays() {
    let bend = [(0, 0), (5, 0), (10, 1), (20, 0), (20, 9), (25, 20)];
    assert_eq!(simplified(&bend), [(0, 0), (20, 0), (20, 9), (25, 20)]);
    assert_eq!(relative(&simplified(&bend)), "M0 0h20v9l5 11");
}

#[test]
fn shapes_of_one_style_become_one_path_in_their_order() {
    let svg = r##"<svg width="9" height="9" viewBox="0 0 9 9" xmlns="http://www.w3.org/2000/svg">
<rect x="1" y="2" width="30" height="40" opacity="1" fill="#FFF" stroke="none"/>
<polyline fill="none" opacity="1" stroke="#111" stroke-width="1" points="0,0 2,3 "/>
<line opacity="1" stroke="#111" stroke-width="1" x1="5" y1="5" x2="5" y2="1"/>
<text x="1" y="2" dy="0.5ex" text-anchor="start" font-family="sans-serif" font-size="8.0" opacity="1" fill="#222">
a &amp; b
</text>
</svg>"##;
    let body = "<path class=\"c0\" d=\"M1 2h30v40h-30z\"/>\n<path class=\"c1\" d=\"M0 0l2 3M5 5v-4\"/>\n\
                <g class=\"c2\">\n<text x=\"1\" y=\"4\">a &amp; b</text>\n</g>\n</svg>\n";
    let compact = compact(svg);
    assert!(compact.ends_with(body), "{compact}");
}
