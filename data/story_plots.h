/*
The plots of the story maker (data/make_corpus.c). A plot is a list of paragraphs, a paragraph a pattern over the words of
story_words.h. Who and what a story is about is bound once and carried through it: the toy that is lost is the toy that is found.
*/
#pragma once

#include <stddef.h>

enum { PLOT_PARAGRAPHS = 5 };

// clang-format off
static const char* const plots[][PLOT_PARAGRAPHS] = {
    // something is lost, and found with a friend's help
    {"{open} {h} had a {toy}. {he} (loved it very much|took it everywhere|played with it every day). {likes}",
     "One {day}, {h} (went|walked|ran) to {place}. {weather} {h} put the {toy} (down|on the ground|beside {him}) and (fell "
     "asleep|began to play|went to look at a <colour> butterfly|picked some flowers). When {he} (looked|came) back, the "
     "{toy} was gone! \"(Oh no|Oh dear)! Where is my {toy}?\" cried {h}. {he} looked <spot>. {he} looked <spot>. But it was "
     "not there, and {h} felt <sad>.",
     "Then {f} came by. {f} was (a <trait>|a little) {fkind}. \"Why (are you so sad|are you crying|do you look so sad)?\" "
     "asked {f}. \"I have lost my {toy},\" said {h}. \"(Do not worry|Do not cry|Dry your eyes). (I will help you look|We "
     "will find it together|Two can look better than one),\" said {f}. (They looked and looked.|They looked here and "
     "there.|{f} had very good eyes.) At last {f} found the {toy} <spot>!",
     "<thanks> {h}. {he} (was <glad>|<smiled>). (\"Would you like to play with me?\" {he} asked. \"Yes!\" said {f}.|{he} "
     "let {f} play with it too.) <fun> (From that day on, they were good friends.|{h} learned that a friend is worth more "
     "than any toy.|After that, {h} took good care of the {toy}.) {close}"},

    // something breaks, and the truth is told
    {"{open} {his} {g} had a {fragile}. (It was very old.|It stood on a shelf near the window.|{ghe} loved it very much.) "
     "\"Please be careful with it,\" {his} {g} always said.",
     "One {day}, {h} was playing with a {toy} in the house. {he} (ran too fast|did not look where {he} was going|jumped too "
     "high). (Crash|Bang)! The {fragile} fell (down|to the floor) and broke. {h} was (scared|afraid). \"What will {ghe} "
     "say?\" {he} thought. {he} (hid|put) the pieces <hiding>. But {he} (could not eat|could not play|felt very bad), and "
     "{his} heart was heavy.",
     "In the evening {his} {g} asked, \"Where is the {fragile}?\" {h} looked at the floor. {he} wanted to say that the "
     "(cat|wind) had done it. But then {he} (told the truth|took a deep breath and told the truth). \"I broke it,\" {he} "
     "said. \"I am (so |very |)sorry.\"",
     "{his} {g} was quiet for a moment. Then {ghe} (smiled|took {his} hand|gave {him} a hug). \"I am sad about the "
     "{fragile},\" {ghe} said <kindly>, \"but I am (glad|proud) that you told me the truth.\" Together they (put the pieces "
     "back with glue|found all the pieces and mended it). It was not perfect, but {h} (thought|said) it was (more "
     "beautiful|even better) than before. (It is always better to tell the truth.|{h} never hid the truth again.|{h} felt "
     "light and happy again.) {close}"},

    // food is shared, and kindness comes back
    {"{open} {likes} One {day}, {his} {g} gave {him} a {food}. \"(This is for you|Take this with you|Eat it when you are "
     "hungry),\" said {his} {g}. {h} was <glad>.",
     "{weather} {h} walked to {place} and sat down (under a tree|on a stone|in the grass). There {he} saw {f}, a <trait> "
     "{fkind}. {f} looked <sad>. \"What is the matter?\" asked {h}. \"I am (so |very |)hungry,\" said {f}. \"I have not "
     "eaten all day.\"",
     "{h} looked at the {food.2}. {he} was hungry too. (It smelled so good!|{he} wanted to eat it all.) But {he} thought "
     "about {f}, and {he} broke it in two. \"(Here, this is for you|You can have half of it|We can share),\" said {h}. {f} "
     "<smiled>. <thanks> {f}. They ate together, and the {food.2} tasted (better than ever|very good|sweet).",
     "<soon> {h} (fell into a deep hole|lost {his} way|dropped {his} {toy} into the water) near {place}. {he} called for "
     "help. Who came? It was {f}! \"You helped me, and now I will help you,\" said {f}. (Soon|Before long) everything was "
     "fine again. {h} was <glad>. (When you are kind, kindness comes back to you.|{h} was glad that {he} had shared.|Good "
     "friends always help each other.) {close}"},

    // a hurt animal is looked after
    {"{open} {likes} One {day}, {h} was walking {place.2}. {weather} (Suddenly|Then) {he} heard a (small|soft|strange) "
     "sound. It came from <spot>.",
     "It was a (little|tiny|small) {creature}! Its {creature.2} was hurt, and it could not move. \"(Poor little thing|Oh, "
     "you poor {creature}),\" said {h} <kindly>. \"(I will help you|Do not be afraid).\" {he} picked it up very "
     "(gently|carefully) and carried it home to {his} {g}.",
     "{his} {g} looked at the {creature.2} and (tied a soft cloth around it|washed it with warm water). \"It needs "
     "(rest|time and care),\" {ghe} said. {h} made a bed of (straw|wool|soft grass) in a box. Every day {he} gave the "
     "{creature} (food and water|milk and bread|water to drink). Every night {he} sang to it. (Slowly|Day by day) the "
     "{creature} grew strong.",
     "<later> the {creature} (stood up|looked at {h} with bright eyes|jumped out of the box). It was well again! {h} was "
     "<glad>, but also a little sad, because it was time to say goodbye. {he} opened the door and the {creature} went (out "
     "into the sun|back to {place}). \"Goodbye, my friend!\" called {h}. (Sometimes it came back to visit {him}.|Every "
     "spring it came back, and {h} was always waiting.|{his} {g} said, \"You have a good heart.\") {close}"},

    // something is learned by trying again
    {"{open} {h} wanted to learn to {skill}. (All the others could do it|{his} friend {f} could do it very well|{he} had "
     "seen {his} {g} do it), but {h} did not know how.",
     "One {day}, {h} tried for the first time. (It was very hard.|It looked so easy, but it was not.) {he} (fell down|made "
     "a mistake|could not do it). {he} tried again, and it (went wrong|did not work) again. \"I will never learn it!\" {he} "
     "(cried|said) and sat down. {he} felt <sad>.",
     "{his} {g} sat down (next to|beside) {him}. \"(When I was small, I could not do it either|Nobody can do it the first "
     "time|Every big thing starts small),\" said {his} {g} <kindly>. \"(Try a little every day|Try once more, and do it "
     "slowly|Do not give up).\" So {h} tried every day, (in the morning and in the evening|in the sun and in the rain|again "
     "and again). {f} came to help {him}, and {skill.2} became (more and more fun|a little easier each day).",
     "<later> {h} {skill.3}! \"Look! (I can do it|I did it|Look at me)!\" {he} cried. {f} <smiled>, and {his} {g} was very "
     "proud. (From that day on, {h} was not afraid to try new things.|If you try and try, you will learn.|{h} knew now that "
     "it is good to never give up.) {close}"},

    // a plant needs patience
    {"{open} One {day}, {his} {g} gave {him} a (small|tiny|little) {plant.2}. \"(Put it in the ground|Plant it in the "
     "garden), and one day it will be a {plant},\" said {his} {g}.",
     "{h} made a hole in the (soft|dark|warm) ground, put the {plant.2} in and gave it water. Then {he} sat down and "
     "waited. {he} waited all day, but nothing happened. \"(Why does it not grow|Is it asleep|When will it come)?\" asked "
     "{h}. \"(You must be patient|Good things need time|It is working under the ground),\" said {his} {g}.",
     "Every morning {h} (ran|went) to the garden to give it water. {he} told it stories and {he} pulled out the weeds. "
     "{his} friend {f} (laughed and said|said), \"There is nothing there!\" But {h} did not (stop|give up). <later> {he} "
     "saw something (green|small and green). It was a little leaf! {h} <smiled>.",
     "The {plant} grew and grew. It grew (as tall as {h}|as high as the fence|taller than {his} {g}), and everyone came to "
     "see it. {f} said, \"I was wrong. It is (wonderful|beautiful).\" {h} was <glad> and (gave {f} a part of it|gave {f} a "
     "{plant.2} too|shared it with everyone). (Good things come to those who wait.|{h} had learned to be patient.|And so "
     "there were soon two gardens.) {close}"},

    // afraid at night
    {"{open} {h} was (brave|cheerful|lively) in the day, but at night {he} was afraid of {fear}. One night, {he} lay in bed "
     "and could not sleep. {fear.2} {h} pulled the blanket over {his} head.",
     "\"(Help|Please come)!\" {he} called. {his} {g} came (in|up the stairs) with {brave_thing}. \"What is the matter?\" "
     "asked {his} {g}. \"I am afraid of {fear},\" said {h} in a (small|thin) voice. {his} {g} sat down on the bed. "
     "\"Listen,\" {ghe} said <kindly>. \"{fear.3}.\"",
     "{h} listened. {he} held {his} {g} by the hand and (closed {his} eyes|counted to ten|looked out of the window). {he} "
     "saw (the moon and many stars|one bright star|a silver light) over {place}. (It was beautiful.|It was not so "
     "bad.|Slowly {his} heart grew quiet.) \"I think I am not afraid any more,\" {he} said.",
     "{his} {g} (kissed {him} on the head|smiled) and left {brave_thing.2} by the bed. Soon {h} was asleep. <soon> {his} "
     "friend {f} said, \"I am afraid of {fear} too.\" {h} <smiled> and told {fhim} what {his} {g} had said. (To be brave is "
     "to be afraid and to go on.|And now they were both brave.|It helps to talk about the things we fear.)"},

    // lost on the way, and home again
    {"{open} {likes} \"(Do not go too far|Stay on the path|Come home before dark),\" {his} {g} always said. One {day}, {h} "
     "saw a <colour> {flyer} and (ran|walked) after it. {weather}",
     "{he} ran (over the hill|through the trees|along the river) and (into the forest|far from home). Then the {flyer} was "
     "gone, and {h} stopped. {he} did not know the way! The trees were (tall|big) and dark. It was getting late. \"(I am "
     "lost|I want to go home),\" {he} said, and a tear ran down {his} face.",
     "\"(Who|Hoo, who) is crying?\" asked a voice. It was an old owl in a tree. \"(Can you help me?|Please help me!|Do you "
     "know the way?) I cannot find my home,\" said {h}. \"(Do not be afraid|Be calm),\" said the owl. \"(Listen to the "
     "water, and follow the river|Look for the highest hill, and walk to it|Follow the evening star, and do not leave the "
     "path). It will bring you home.\"",
     "{h} did as the owl said. {he} walked and walked, and (at last|soon) {he} saw a light. It was {his} home! {his} {g} "
     "stood at the door. \"I was so worried!\" said {his} {g} and (hugged {him}|held {him} in {ghis} arms). \"I am sorry,\" "
     "said {h}. \"I will (listen to you|stay on the path) from now on.\" Then they (had supper by the fire|drank warm "
     "milk|ate hot soup). {close}"},

    // a quarrel between friends
    {"{open} {h} and {f} were (good|best) friends. {f} was a <trait> {fkind}. They did everything together. One {day}, they "
     "found a {toy} {place.2}.",
     "\"It is mine! I saw it first,\" said {h}. \"No, it is mine! I picked it up,\" said {f}. They both pulled (at the "
     "{toy}|as hard as they could). (Crack|Snap)! Now the {toy} was broken. \"(You did this|It is all your fault)!\" they "
     "both (shouted|cried). {h} went home (angry|in anger), and {f} went home too.",
     "At home it was very (quiet|dull). {h} had nobody to (play with|talk to|laugh with). {he} felt <sad>. {his} {g} asked, "
     "\"What is more important, a {toy} or a friend?\" {h} thought about it for a long time. Then {he} (took some glue and "
     "mended the {toy}|picked some flowers|stood up) and went to find {f}.",
     "{h} met {f} {place.2}. \"I am sorry,\" said {h}. \"I am sorry too,\" said {f}. Then they both (laughed|smiled). \"(We "
     "can share it|You can have it today, and I will have it tomorrow|Let us play together again),\" said {h}. <fun> (They "
     "never fought about a {toy} again.|A friend is more important than a {toy}.|It is good to say sorry.) {close}"},

    // a gift made by hand
    {"{open} {likes} Soon it was the birthday of {his} {g}. {h} wanted to give {ghim} something (special|very "
     "nice|beautiful), but {he} had no money. {h} looked in {his} box. There was only (one small coin|a button|an old "
     "string) in it.",
     "{h} walked to {place} to think. There {he} met {f}, {his} friend. \"I have no (gift|present) for my {g},\" said {h}. "
     "\"(Then make one!|You can make one!|Why do you not make one?)\" said {f}. \"A gift that you make yourself is the best "
     "gift of all.\" That was a good idea!",
     "So {h} went to work. {he} worked (all day|all week|for three days), and {f} helped {him}. (It was not easy.|It had to "
     "be a secret.|Nobody was allowed to look.) At last it was ready. It was {gift}.",
     "On the birthday {h} gave the (gift|present) to {his} {g}. {ghe} looked at it for a long time and (smiled|had tears in "
     "{ghis} eyes). \"Did you make this yourself?\" asked {his} {g}. \"Yes,\" said {h}, \"and {f} helped me.\" \"It is the "
     "most beautiful gift (of all|in the world),\" said {his} {g}. {h} was <glad>. Then they all ate (cake|a big cake|sweet "
     "pears) together. (Love is the best gift.|A gift from the heart is never small.|) {close}"},

    // built, broken, built again
    {"{open} One {day}, {h} and {friend} went to {work.5}. {weather} \"(Let us|We should) build {work}!\" said {h}. \"(Yes, "
     "what a good idea|Yes, let us start|That will be fun)!\" said {f}.",
     "They worked hard. {h} (carried|brought) everything they needed, and {f} put it (in its place|together). It took (all "
     "morning|many hours|a long time). At last the {work.2} was (ready|done). It was the best {work.2} (in the world|they "
     "had ever seen). They were both <glad>.",
     "But then came {work.3}! In a moment the {work.2} was (broken|gone). {f} began to cry. \"All our work was for "
     "nothing,\" said {f}. {h} was <sad> too. {he} looked at (what was left|the sky|{his} hands) and thought. \"We did it "
     "once,\" {he} said, \"and we can do it again. This time we will make it stronger.\"",
     "So they began again. (They had learned a lot the first time.|Now they knew how to do it.|This time it went much "
     "faster.) {his} {g} came to help, and (before the sun went down|before supper) there stood a new {work.2}, bigger and "
     "(better|stronger) than the first. {work.4} came, but the {work.2} (stood|did not break). {h} and {f} were <glad>. (If "
     "something breaks, you can build it again.|Friends can do anything together.|) {close}"},

    // a shy newcomer
    {"{open} {likes} One {day}, a new family came to live near {him}. They had a (child|young one) (named|called) {f}. {f} "
     "was a quiet {fkind} and did not know anyone.",
     "{f} sat alone {place.2} and watched the others play. {weather} Nobody (saw|asked) {fhim}. {f} felt <sad>. \"Nobody "
     "will want to play with me,\" {fhe} thought. Then {h} saw {fhim}. {h} remembered how it feels to be alone.",
     "{h} went to {f} and said, \"Hello! I am {h}. (What is your name|Do you want to play with us|Would you like to see my "
     "{toy})?\" At first {f} only looked at {fhis} feet. Then {fhe} said in a (small|quiet) voice, \"(I am {f}|Yes, "
     "please|I would like that).\" {h} took {fhim} by the hand and they ran to the others.",
     "{f} knew (a new game|a funny song|many good stories), and soon everyone wanted to (hear more|play too). <fun> In the "
     "evening {f} told {fhis} family, \"I have a friend now.\" (One kind word can make a friend.|It only takes one hello to "
     "make a friend.|Since then nobody sits alone {place.2}.) {close}"},

    // the race
    {"{open} {h} was the fastest {kind} of all. {friend} was (much slower|not so fast). One {day}, there was a big race "
     "(around|to) {place}. The (prize|first prize) was a {toy}. \"I will win for sure,\" said {h}.",
     "(One, two, three, go|Ready, steady, go)! {h} ran (like the wind|as fast as {he} could). Soon {he} was far ahead of "
     "{f} and the others. {weather} {he} could already see the end of the race. Then {he} heard someone cry. It was a "
     "little {creature}. It had fallen and hurt its {creature.2}.",
     "{h} stopped. \"If I help, I will lose the race,\" {he} thought. {he} looked at the (prize|end of the race), and {he} "
     "looked at the {creature}. Then {he} went back and (carried it home|helped it up|tied a leaf around its {creature.2}). "
     "\"Thank you,\" said the {creature}. One after the other, all the runners passed by. {f} won the race.",
     "\"(Why did you stop|What happened to you)?\" asked {f}. {h} told {fhim} everything. {f} thought for a moment. Then "
     "{fhe} gave the {toy} to {h}. \"You are the (real|true) winner,\" said {f}. Everyone (clapped|cheered). {h} was "
     "<glad>, and they played with the {toy} together. (It is good to be fast, but it is better to be kind.|Being kind is "
     "more important than winning.|)"},

    // a rainy day
    {"{open} {h} wanted to go to {place}, but it was raining. It rained (in the morning and it rained at noon|all day "
     "long|and rained). {h} looked out of the window and felt <sad>. \"There is nothing to do,\" said {h}.",
     "Then {f}, {his} friend, (knocked on the door|came to visit). {f} was wet from head to foot, but {fhe} was laughing. "
     "\"(What shall we do|What can we play) in the rain?\" asked {h}. \"We can (make a boat out of paper|make a tent out of "
     "blankets|make a ship out of a big box),\" said {f}. {h} <smiled>.",
     "They took (a big box|some old paper|two blankets and four chairs) and (worked|played) the whole afternoon. {h} was "
     "the captain and {f} was the (cook|sailor|king of the island). They sailed over the sea and met a (whale|big fish|kind "
     "giant). {his} {g} brought them some {food.2}, and they ate (on board|like sailors|on the island).",
     "All at once it was (bright|light) in the room. The rain had stopped! {h} and {f} ran outside. Over {place} stood a "
     "big rainbow, (red and yellow and green and blue|with all its colours). \"How beautiful!\" said {f}. \"And without the "
     "rain we would not have seen it,\" said {h}. (Even a rainy day can be a good day.|It was the best rainy day of all.|) "
     "{close}"},

    // up too high
    {"!{open} {h} had a (little|small) kitten (named|called) {kitten}. {kitten} liked to (chase leaves|sleep in the "
     "sun|play with a string). {h} loved {kitten} (very much|more than anything).",
     "One {day}, a big dog ran into the garden and barked. {kitten} was so afraid that it climbed up {height}. There it sat "
     "and could not come down. \"Meow!\" cried {kitten}. {h} called and called, but the kitten did not move.",
     "{h} ran to {friend}. \"(Please help me|Come quickly)! {kitten} cannot come down,\" said {h}. \"(We need a ladder|I "
     "know where a ladder is),\" said {f}. They carried the ladder to {height.2}, but it was too short. \"What now?\" asked "
     "{h}. Then the {helper} came by. \"(Stand on my back|I will hold the ladder up|I have a longer one),\" said the "
     "{helper}. {h} was afraid, but {he} climbed up, (slowly|step by step|higher and higher).",
     "At last {h} held the kitten in {his} arms. \"(I have you|Now you are safe), {kitten},\" {he} said <kindly>. When they "
     "were down again, {f} <smiled>. <thanks> {h}. (\"Together we are tall,\" said the {helper}.|The {helper} laughed and "
     "went on.|{kitten} never climbed so high again.) {close}"},

    // a purse is found
    {"{open} One {day}, {his} {g} gave {him} (two|three|five) coins. \"Please go to the market and buy some {food.2},\" "
     "said {his} {g}. {weather} {h} put the coins in {his} pocket and went (on {his} way|down the road).",
     "On the way {h} saw something <spot>. It was a (small|brown|heavy) purse, and it was full of (gold|money)! \"With this "
     "I could buy a {toy}, and a cake, and anything I want,\" thought {h}. Nobody was looking. But then {he} thought, "
     "\"Someone has lost it, and now they are <sad>.\"",
     "At the market {h} asked everyone. \"Is this your purse?\" {he} asked. \"No, it is not mine,\" said one after the "
     "other. Then {he} saw the {helper}, who looked here and there and was very worried. \"Is this your purse?\" asked {h}. "
     "\"Yes, it is! It is all the money I have,\" said the {helper}.",
     "{h} gave back the purse. <thanks> the {helper}. \"Please take this, because you are so honest.\" And the {helper} "
     "gave {him} a {toy}! {h} was <glad>. {he} bought the {food.2} and ran home to tell {his} {g}. (\"I am proud of you,\" "
     "said {his} {g}.|It feels good to do the right thing.|To be honest is worth more than gold.) {close}"},

    // soup for everyone
    {"{open} It was a cold winter, and nobody had much to eat. {h} looked into the kitchen. There was only one "
     "(carrot|onion|potato). \"That is not enough for a soup,\" said {h}. {he} felt <sad>.",
     "There was a knock at the door. It was {f}, {his} friend. \"I am cold and hungry,\" said {f}, \"and I have only one "
     "(turnip|cabbage|bean).\" {h} had an idea. \"Come in! (Put it in the pot|Let us cook it) with mine,\" {he} said. They "
     "made a fire and put water in a big pot.",
     "(Soon|Then) the {helper} came by and smelled the soup. \"I have some salt,\" said the {helper}. \"Come in!\" said {h} "
     "and {f}. Then {his} {g} came with a {food}. Each of them had only a little, but {h} put it all (together|in the pot) "
     "and stirred. It smelled better and better.",
     "Then they sat down around the table, and there was enough for everyone. \"(This is the best soup in the world|I have "
     "never had such a good soup),\" said {f}. Outside the snow fell, but inside it was warm. {h} was <glad>. (If everyone "
     "gives a little, there is enough for all.|A little from everyone makes a lot.|) {close}"},

    // a wish
    {"{open} {likes} But {h} had nobody to play with. One night {he} sat at the window with {his} {g} and looked at the "
     "stars. A bright star fell from the sky. \"(Quick, make a wish|Now you can make a wish)!\" said {his} {g}.",
     "{h} closed {his} eyes. \"I wish I had a friend,\" {he} whispered. Then {he} went to bed and dreamed of (a garden on "
     "the moon|a ship with silver sails|a horse that could fly).",
     "<soon> {h} went to {place}. {weather} {he} waited and waited. Nobody came. \"The star did not hear me,\" {he} said. "
     "{he} felt <sad> and wanted to go home. Then {he} heard someone cry <spot>. It was {f}, a (little|<trait>) {fkind}, "
     "who had (fallen down|lost a shoe|lost a {toy}).",
     "\"(Let me help you,|May I help you?|Do not cry, I will help you,)\" said {h}. {he} helped {f}, and {f} <smiled>. \"Do "
     "you want to play with me?\" asked {f}. \"Yes!\" said {h}. <fun> That night {h} told {his} {g}, \"My wish came true.\" "
     "\"The star did not do that,\" said {his} {g}. \"You did it yourself, because you were kind.\""},
};
// clang-format on
