(function () {
  "use strict";
  // Read-outs of the curves: the epoch under the pointer, or chosen with the arrow keys.
  document.querySelectorAll("svg.lines[data-series]").forEach(function (chart) {
    var series = chart.dataset.series.split(";").map(function (part) {
      var at = part.indexOf("=");
      return { name: part.slice(0, at), values: part.slice(at + 1).split(",") };
    });
    var epochs = series[0].values.length, from = +chart.dataset.from, to = +chart.dataset.to, chosen = epochs;
    var cursor = chart.querySelector(".cursor"), readout = chart.parentNode.querySelector(".readout");
    var write = function (value) {
      if (value === "") return "—";
      return chart.dataset.unit === "percent" ? (value * 100).toFixed(2) + "\u202f%" : (+value).toFixed(4);
    };
    var show = function (epoch) {
      chosen = Math.min(epochs, Math.max(1, epoch));
      var x = epochs > 1 ? from + (to - from) * (chosen - 1) / (epochs - 1) : (from + to) / 2;
      cursor.setAttribute("x1", x);
      cursor.setAttribute("x2", x);
      readout.textContent = "epoch " + chosen + ": " + series.map(function (line) { return line.name + " " + write(line.values[chosen - 1]); }).join(", ");
    };
    chart.setAttribute("tabindex", "0");
    chart.addEventListener("pointermove", function (event) {
      var box = chart.getBoundingClientRect();
      var x = (event.clientX - box.left) / box.width * chart.viewBox.baseVal.width;
      show(Math.round(epochs > 1 ? 1 + (x - from) / (to - from) * (epochs - 1) : 1));
    });
    chart.addEventListener("keydown", function (event) {
      var step = { ArrowLeft: -1, ArrowRight: 1, Home: -epochs, End: epochs }[event.key];
      if (step) { event.preventDefault(); show(chosen + step); }
    });
    chart.addEventListener("focus", function () { show(chosen); });
  });

  // The matrix: one tab stop, arrow keys between cells, and a sentence for the cell.
  var matrix = document.querySelector("table.matrix"), sentence = document.getElementById("matrix-readout");
  if (matrix) {
    sentence.hidden = false;
    var names = [].map.call(matrix.tHead.rows[0].cells, function (cell) { return cell.textContent; });
    var totals = [].map.call(matrix.tBodies[0].rows, function (row) {
      return [].slice.call(row.cells, 1).reduce(function (sum, cell) { return sum + count(cell); }, 0);
    });
    function count(cell) { return cell.className === "none" ? 0 : +cell.firstChild.textContent.replace(/,/g, ""); }
    var tell = function (cell) {
      var row = cell.parentNode.sectionRowIndex, column = cell.cellIndex, found = count(cell);
      var share = totals[row] ? (found / totals[row] * 100).toFixed(1) + "\u202f%" : "none";
      var what = row + 1 === column ? names[column] + " recognised: " : names[row + 1] + " taken for " + names[column] + ": ";
      sentence.textContent = what + found.toLocaleString("en") + " of " + totals[row].toLocaleString("en") + " (" + share + ")";
    };
    var cellOf = function (event) { return event.target.closest("tbody td"); };
    matrix.addEventListener("pointerover", function (event) { var cell = cellOf(event); if (cell) tell(cell); });
    matrix.addEventListener("focusin", function (event) { var cell = cellOf(event); if (cell) tell(cell); });
    matrix.addEventListener("keydown", function (event) {
      var cell = cellOf(event), move = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!cell || !move) return;
      event.preventDefault();
      var row = matrix.tBodies[0].rows[cell.parentNode.sectionRowIndex + move[0]];
      var next = row && cell.cellIndex + move[1] > 0 && row.cells[cell.cellIndex + move[1]];
      if (!next) return;
      cell.removeAttribute("tabindex");
      next.tabIndex = 0;
      next.focus();
    });
  }
})();
