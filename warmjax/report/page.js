'use strict';
// Sorts tables by a clicked heading, and filters and searches the examples. Without it the page shows everything.
const numeric = (text) => {
  const value = parseFloat(text.replace(/−/g, '-').replace('< ', '').replace(/,/g, ''));
  return text === '∞' ? Infinity : value;
};
for (const heading of document.querySelectorAll('thead th')) {
  heading.tabIndex = 0;
  heading.setAttribute('aria-sort', 'none');
  const sort = () => {
    const body = heading.closest('table').tBodies[0];
    const column = heading.cellIndex;
    const direction = heading.getAttribute('aria-sort') === 'ascending' ? -1 : 1;
    for (const other of heading.parentNode.cells) other.setAttribute('aria-sort', 'none');
    heading.setAttribute('aria-sort', direction === 1 ? 'ascending' : 'descending');
    const isNumber = heading.classList.contains('number');
    const text = (row) => row.cells[column].textContent;
    const order = (a, b) => {
      if (!isNumber) return text(a).localeCompare(text(b));
      const [x, y] = [numeric(text(a)), numeric(text(b))];
      if (Number.isNaN(x) || Number.isNaN(y)) return (Number.isNaN(x) - Number.isNaN(y)) * direction;
      return x === y ? 0 : x < y ? -1 : 1;
    };
    body.append(...Array.from(body.rows).sort((a, b) => direction * order(a, b)));
  };
  heading.addEventListener('click', sort);
  heading.addEventListener('keydown', (event) => { if (event.key === 'Enter') sort(); });
}
const form = document.getElementById('filters');
if (form) {
  const shown = document.getElementById('shown');
  const all = Array.from(document.querySelectorAll('.example'));
  const filter = () => {
    const wanted = Array.from(form.querySelectorAll('select')).map((select) => [select.name, select.value]);
    const words = form.elements.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const example of all) {
      const text = words.length ? example.textContent.toLowerCase() : '';
      const isShown = wanted.every(([name, value]) => !value || example.dataset[name] === value)
        && words.every((word) => text.includes(word));
      example.hidden = !isShown;
      count += isShown;
    }
    shown.textContent = `${count} of ${all.length} shown`;
  };
  form.hidden = false;
  form.addEventListener('input', filter);
  form.addEventListener('submit', (event) => event.preventDefault());
  filter();
}
