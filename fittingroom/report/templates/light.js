(function () {
  "use strict";
  // The light switch: what the reader chose is kept where the browser allows it.
  var root = document.documentElement, light = document.getElementById("light");
  try { var kept = localStorage.getItem("fittingroom-theme"); if (kept === "dark" || kept === "light") root.dataset.theme = kept; } catch (error) { /* private mode */ }
  light.hidden = false;
  light.addEventListener("click", function () {
    var dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("fittingroom-theme", root.dataset.theme); } catch (error) { /* private mode */ }
  });
})();
