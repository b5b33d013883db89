/*
The words of the story maker (data/make_corpus.c): one list per name, its items separated by |, their forms by /.

    "place"   the park/in the park | the river/by the river | ..     {place} = the park, {place.2} = in the park

An item may itself be a pattern. The patterns that use the lists are in story_plots.h, their grammar in make_corpus.c.
Words are few and plain on purpose: a model of a million parameters has a minute to learn them.
*/
#pragma once

typedef struct {
    const char* name;
    const char* items;
} WordList;

// clang-format off
static const WordList word_lists[] = {
    // people and animals; the story binds h, he, him, his, self, kind (hero), the same with f (friend) and g (elder)
    {"girl", "Lily|Mia|Anna|Sara|Nora|Ella|Ruby|Lucy|Rosa|Emma|Clara|Ivy|Zoe|Molly|Alice|Hanna|Daisy|Nina|Tess|Maya"},
    {"boy", "Tom|Ben|Max|Sam|Leo|Jack|Finn|Adam|Oscar|Peter|Noah|Hugo|Tim|Luke|Joe|Oliver|Paul|Emil|Marek|Eli"},
    {"animal", "rabbit|mouse|fox|bear|duck|squirrel|hedgehog|frog|cat|dog|owl|goat|lamb|otter|badger|pony"},
    {"woman", "mother|grandmother|aunt|big sister"},
    {"man", "father|grandfather|uncle|big brother"},
    {"house",
        "a small house by the sea|a white cottage near the woods|a village in the hills|a little town by the river|"
        "a stone house at the end of a long road|a tall house with a red roof|a quiet valley|an old mill|"
        "a house with a green door"},
    {"den",
        "a hollow tree|a warm den under an old oak|a cosy hole near the pond|a nest of soft grass|a cave behind the hill|"
        "a little house made of sticks|a green valley|the old forest"},
    {"trait", "kind|brave|curious|quiet|cheerful|clever|gentle|merry|careful|patient|honest|playful|friendly|lively"},
    {"creature",
        "bird/wing|robin/wing|duckling/foot|rabbit/leg|kitten/paw|puppy/paw|hedgehog/foot|squirrel/leg|fawn/leg|owl/wing"},
    {"kitten", "Snow|Pepper|Button|Plum|Cloud|Biscuit|Whiskers|Ginger"},

    // time and weather: the second form says what it was like
    {"day",
        "sunny morning/The sun was warm and the sky was blue.|bright morning/Birds sang in every tree.|"
        "windy afternoon/The wind blew the leaves along the path.|cool autumn day/Red and yellow leaves lay on the ground.|"
        "spring morning/The first flowers were open.|warm summer day/Bees hummed over the grass.|"
        "grey morning/Soft clouds hung over the hills.|fine afternoon/The air smelled of fresh grass.|"
        "Saturday morning/Everyone was out in the sun.|quiet afternoon/Everything was still and warm."},
    {"later", "A week later|Some days later|After a while|Two weeks later|One fine day|Many days later"},
    {"soon", "The next day|The next morning|Some days later|Two days later|That same week"},

    // places; the second form says where
    {"place",
        "the park/in the park|the meadow/in the meadow|the river/by the river|the beach/on the beach|"
        "the forest/in the forest|the garden/in the garden|the hill/on the hill|the pond/by the pond|"
        "the old bridge/near the old bridge|the big field/in the big field|the lake/by the lake|the orchard/in the orchard"},
    {"spot",
        "in the tall grass|under a bench|behind the big tree|near the fence|beside the well|behind a stone|under a bush|"
        "between the flowers|under the leaves|behind a wall"},
    {"hiding", "under the bed|behind the door|in an old box|under the stairs|in a basket|behind the chair"},
    {"height", "a tall tree/the tree|the roof of the barn/the barn|a high wall/the wall|the old apple tree/the apple tree"},

    // things
    {"colour", "red|blue|green|yellow|white|brown|golden|silver|orange|purple"},
    {"toy",
        "<colour> ball|<colour> kite|toy boat|rag doll|wooden horse|little drum|<colour> truck|soft bear|paper plane|"
        "tin whistle|<colour> top|silver bell|toy train|<colour> hat|small lantern|music box|wooden duck|picture book"},
    {"fragile", "blue vase|glass bowl|white cup|old clock|tea pot|yellow plate|small mirror|glass lamp"},
    {"food",
        "loaf of bread/bread|piece of cake/cake|bag of apples/apples|jar of honey/honey|basket of berries/berries|"
        "piece of cheese/cheese|bag of nuts/nuts|bowl of soup/soup|plate of cookies/cookies|basket of pears/pears"},
    {"plant",
        "sunflower/seed|apple tree/seed|rose/seed|bean plant/bean|pumpkin/seed|tomato plant/seed|cherry tree/stone|"
        "lemon tree/seed"},
    {"gift",
        "a card with a big <colour> heart|a necklace of shells|a scarf of soft wool|a picture of the whole family|"
        "a box made of wood|a basket of wild flowers|a flute made of reed|a warm pair of socks|a bowl made of clay"},
    {"work",
        "a sand castle/castle/a big wave/another big wave/the beach|"
        "a house of leaves/house/a strong wind/another strong wind/the forest|"
        "a tower of stones/tower/a gust of wind/another gust of wind/the hill|"
        "a bridge of branches/bridge/a lot of water/the water/the river|"
        "a tent of blankets/tent/a strong wind/another strong wind/the garden|"
        "a wall of stones/wall/a big wave/another big wave/the lake"},
    {"helper", "old fisherman|baker|farmer|gardener|shepherd|postman|miller|old woman|old man|carpenter"},

    // what one can learn: to do it, doing it, did it
    {"skill",
        "swim/swimming/swam across the pond|ride a bicycle/riding a bicycle/rode all the way down the road|"
        "whistle/whistling/whistled a whole song|climb a rope/climbing the rope/climbed to the very top|"
        "skate on the ice/skating/skated around the whole lake|read/reading/read a whole page|"
        "bake bread/baking/baked a fine brown loaf|play the flute/playing the flute/played a lovely song|"
        "jump over the stream/jumping/jumped right over the stream|paint/painting/painted a beautiful bird|"
        "row a boat/rowing/rowed across the lake|catch a ball/catching/caught ten balls in a row"},
    {"flyer", "butterfly|bird|dragonfly|bee"},
    {"fear",
        "the dark/The room was very dark, and every shadow looked like a giant./It is only the night, and the night is kind|"
        "thunder/A loud storm came over the hills, and the windows shook./Thunder is only the clouds talking to each other|"
        "the wind/The wind cried around the house like a wolf./It is only the wind, and it is looking for the sea|"
        "strange sounds/There was a strange sound above the bed, tap, tap, tap./It is only the rain on the roof"},
    {"brave_thing",
        "a small lamp/the small lamp|a soft blanket/the soft blanket|a candle/the candle|a woolly bear/the woolly bear"},

    // feelings and manners
    {"glad", "glad|happy|very happy|so happy|very glad|full of joy"},
    {"sad", "sad|unhappy|very sad|upset"},
    {"smiled", "smiled|laughed|clapped|jumped for joy|danced around|nodded and smiled|gave a big smile"},
    {"kindly", "kindly|softly|gently|with a smile|in a warm voice"},
    {"liked",
        "play (in the garden|by the river|with the other children|outside)|look at the clouds|sing|run very fast|"
        "draw pictures|listen to stories|help at home|look for pretty stones|dance in the rain|ask questions|count the stars|"
        "climb trees"},
    {"fun",
        "They played (until the sun went down|all day long|and laughed together|until it was time to go home).|"
        "They ran and laughed (until they were tired|in the sun).|They had so much fun (that day|together).|"
        "They sat side by side and watched the (clouds|birds|boats|sunset)."},
    {"thanks",
        "\"Thank you(| so much| very much)!\" said|\"Thank you, thank you!\" cried|\"You are so kind,\" said|"
        "\"I will never forget this,\" said|\"How can I thank you?\" asked"},

    // sentences that many stories share
    {"open",
        "Once upon a time there was a (little|small|young|<trait>) {kind} (named|"
        "called) {h}. {he} lived with {his} {g} in {home}.|Once there was a (little|<trait>) {kind} (named|"
        "called) {h}. {h} lived in {home}.|In {home} there lived a (little|young|<trait>) {kind} (named|called) {h}.|"
        "{h} was a (little|small|<trait>) {kind} who lived with {his} {g} in {home}.|There once was a {kind} (named|"
        "called) {h}, who was very <trait>. {he} lived with {his} {g} in {home}."},
    {"likes",
        "{h} liked to <liked>.|{he} loved to <liked>.|Every day {he} liked to <liked>.|"
        "{he} was <trait> and liked to <liked>.|More than anything, {h} loved to <liked>.||"},
    {"weather", "{day.2}||"},
    {"friend", "{his} (best |good |)friend {f}|{his} friend {f}"},
    {"close",
        "That night {h} slept (very well|with a smile|soundly).|{h} went home (with a happy heart|with a smile|"
        "and told {his} {g} all about it).|It was the best day of all.|"
        "When {h} went to bed that night, {he} was still smiling.|And {his} {g} gave {him} a big hug.|"
        "It was a day that {h} (always remembered|never forgot).|Then it was time for supper, and everyone was hungry.||||"},
};
// clang-format on
