// Evaluated in the browser by the tests: measures what only a browser knows.
(() => {
  const parts = (color) => {
    const found = color.match(/[\d.]+/g).map(Number);
    return { rgb: found.slice(0, 3), alpha: found.length > 3 ? found[3] : 1 };
  };
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const ground = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = parts(getComputedStyle(at).backgroundColor);
      if (color.alpha === 1) return color.rgb;
    }
    return [255, 255, 255];
  };
  const contrast = (element) => {
    const lights = [luminance(parts(getComputedStyle(element).color).rgb), luminance(ground(element))];
    return (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
  };
  const withText = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const found = new Set();
    while (walker.nextNode()) {
      if (walker.currentNode.data.trim()) found.add(walker.currentNode.parentElement);
    }
    return [...found];
  };
  const name = (element) => `${element.tagName}.${element.className}: ${element.textContent.trim().slice(0, 40)}`;
  const mayLeave = (element) => element.closest("pre, .hidden, .skip, .stack thead, td.one, td.clip") !== null;

  for (const part of document.querySelectorAll("details")) part.open = true;
  const width = document.documentElement.clientWidth;
  const elements = withText();
  return {
    width,
    texts: elements.length,
    overflow: document.documentElement.scrollWidth - width,
    outside: elements.filter((each) => !mayLeave(each) && each.getBoundingClientRect().right > width + 1).map(name),
    faint: elements.filter((each) => contrast(each) < 4.5).map((each) => `${contrast(each).toFixed(2)} ${name(each)}`),
    ground: getComputedStyle(document.body).backgroundColor,
  };
})();
