(function () {
  "use strict";
  // A link into what is folded away unfolds it.
  var unfold = function () {
    var target = location.hash && document.getElementById(location.hash.slice(1));
    for (var box = target; box; box = box.parentElement) if (box.tagName === "DETAILS") box.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  if (location.hash) unfold();
})();
